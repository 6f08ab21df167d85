"""A lower bound on wear for one seed with everything known: no policy that serves all the work can wear less.

A linear program over the ticks of a stage. Known are the eclipses and every row's demand; free is which holder serves
which part of an expert's rows in each tick, in fractions, and which of a slice's gateways its trunk. It is a bound, not
a plan, because where the twin is not linear it is bent downwards. Of each satellite the twin gives the course with an
idle board: depth D0 and discharge d0 of every tick; with work both can only be more. Then, with f the closed form:

- wear: f(D + d) - f(D) >= f(D0 + d0) - f(D0) + f'(D0 + d0) (d - d0) + (f'(D0 + d0) - f'(D0)) (D - D0), since f and
  f' are convex.
- discharge: d >= d0, and for every joule beyond it at least 1 / U coulombs, U the open circuit voltage at D0.
- depth: D rises by d and falls by at most what the array's surplus, less the work, puts in at the lowest voltage.
- bytes are free and every link is up.

With `heat` the die must also end every tick at or below the soft limit (exact for a network that does not radiate).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from ground_controller.now_table import LightTable
from ground_controller.physics.ageing import DEPTH_EXPONENT, step_wear
from ground_controller.physics.battery import open_circuit_v
from ground_controller.physics.solar import solar_power_w
from ground_controller.physics.thermal import response_k_w
from ground_controller.studies.policy_loop import ROWS, Course
from ground_controller.studies.policy_scene import Stage
from hil_config.errors import UsageError
from models.oracle import route

Float = NDArray[np.float64]
TIME_LIMIT_S = 900.0


@dataclass(frozen=True)
class Demand:
    """`watts` [T, G] of the rows of a group if any one host serves them all; `hosts` the nodes of each group."""

    hosts: tuple[tuple[int, ...], ...]
    watts: Float


@dataclass(frozen=True)
class Bound:
    """`wear`: mean over satellites, the closed form, over the ticks; `status` as the solver says it.

    `twin_wear`, `twin_peak_c`: what the power of the program's solution comes to in the twin, bytes left out.
    """

    wear: float
    solved: bool
    status: str
    variables: int
    twin_wear: float
    twin_peak_c: float


def demand_of(stage: Stage, ticks: int) -> Demand:
    """What topk would serve with every expert reachable, by holders, and the trunks by the gateways of their slice."""
    setting, scene, card = stage.setting, stage.scene, stage.setting.model
    groups: dict[tuple[int, ...], int] = {}
    column = np.zeros((card.layers, card.experts), np.intp)
    for layer, row in enumerate(setting.holders):
        for expert, held in enumerate(row):
            column[layer, expert] = groups.setdefault(tuple(sorted(set(held))), len(groups))
    trunks = []
    for piece in setting.gateways:
        nodes = tuple(sorted(setting.nodes.index(name) for name in piece.nodes))
        trunks.append((groups.setdefault(nodes, len(groups)), piece.last - piece.first + 1))
    watts = np.zeros((ticks, len(groups)))
    for tick in range(ticks):
        chosen = np.random.default_rng((tick, stage.seed)).integers(0, stage.scores.shape[1], ROWS)
        for layer in range(card.layers):
            picks, _ = route(stage.scores[layer, chosen], card.routing)
            np.add.at(watts[tick], column[layer, picks.ravel()], scene.tokens_s / ROWS * scene.call_j)
        for group, layers in trunks:
            watts[tick, group] += layers * scene.tokens_s * scene.trunk_j
    return Demand(tuple(groups), watts)


@dataclass(frozen=True)
class _Batteries:
    """Of every tick and node [T * N]: `slope` f'(D0 + d0), `bend` f'(D0 + d0) - f'(D0), the idle discharge `taken` or
    the surplus of the array as charge (`surplus`), depth by a watt when discharging (`down_w`) and when charging
    (`up_w`). `before`, `after`: the idle depth at both ends of the tick."""

    slope: Float
    bend: Float
    taken: Float
    surplus: Float
    down_w: Float
    up_w: Float
    before: Float
    after: Float


def lower_bound(stage: Stage, idle: Course, tick_s: float, heat: bool) -> Bound:
    """The least wear that any policy could reach. `idle`: the course of the same stage without work."""
    setting = stage.setting
    ticks, count = len(idle.charge), len(setting.nodes)
    if heat and setting.twin.platform.has_plate:
        raise UsageError("offline bound: a radiating plate is not linear", "leave out the heat")
    demand = demand_of(stage, ticks)
    pairs = [(g, n) for g, held in enumerate(demand.hosts) for n in held]
    cells = _batteries(stage, idle, tick_s)
    shares, flows = ticks * len(pairs), ticks * count
    by_group, by_node = _sums(pairs, ticks, len(demand.hosts), count)
    # Variables: watts of every (tick, pair); discharge and depth at the end of every (tick, node); die and case there.
    eye = sparse.eye_array(flows)
    discharging = cells.taken > 0.0
    down = sparse.diags_array(cells.down_w) @ by_node
    gains = np.where(discharging, cells.down_w, np.minimum(cells.up_w, cells.down_w))
    moves = sparse.diags_array(gains) @ by_node
    steps = sparse.eye_array(flows, k=-count) - eye  # depth before less depth after
    above = sparse.vstack((
        sparse.hstack((down, -eye, sparse.csr_array((flows, flows)))),
        sparse.hstack((moves, sparse.csr_array((flows, flows)), steps)),
    ))  # fmt: skip
    first = np.where(np.arange(flows) < count, cells.before, 0.0)
    limit = np.concatenate((
        np.where(discharging, -cells.taken, cells.surplus / cells.up_w * cells.down_w),
        np.where(discharging, -cells.taken, cells.surplus) - first,
    ))  # fmt: skip
    later = np.concatenate((cells.bend[count:], np.zeros(count)))  # the depth after a tick is the next one's before
    cost = np.concatenate((np.zeros(shares), cells.slope, later)) / count
    worn = step_wear(cells.before, cells.before + cells.taken) - cells.slope * cells.taken
    constant = float(worn.sum() - cells.bend[count:] @ cells.before[count:]) / count
    equal, value = sparse.hstack((by_group, sparse.csr_array((by_group.shape[0], 2 * flows)))), demand.watts.ravel()
    lower = np.concatenate((np.zeros(shares + flows), cells.after))
    upper = np.full(len(lower), np.inf)
    if heat:
        rows, right = _thermal(stage, tick_s, ticks, by_node)
        more = 2 * flows
        equal = sparse.vstack((
            sparse.hstack((equal, sparse.csr_array((equal.shape[0], more)))),
            sparse.hstack((rows[:, :shares], sparse.csr_array((more, more)), rows[:, shares:])),
        ))  # fmt: skip
        above = sparse.hstack((above, sparse.csr_array((above.shape[0], more))))
        value, cost = np.concatenate((value, right)), np.concatenate((cost, np.zeros(more)))
        nodes_c = np.full((flows, 2), np.inf)
        nodes_c[:, 0] = setting.limits.temperature_soft_c
        lower, upper = np.concatenate((lower, np.full(more, -np.inf))), np.concatenate((upper, nodes_c.ravel()))
    found = linprog(
        cost, A_ub=above.tocsr(), b_ub=limit, A_eq=equal.tocsr(), b_eq=value,
        bounds=np.stack((lower, upper), axis=1), method="highs-ipm", options={"time_limit": TIME_LIMIT_S},
    )  # fmt: skip
    if not found.success:
        return Bound(float("nan"), False, str(found.message), len(cost), float("nan"), float("nan"))
    power_w = (by_node @ found.x[:shares]).reshape(ticks, count) + np.array(setting.idle_power_w)
    return Bound(float(found.fun) + constant, True, str(found.message), len(cost), *_lived(stage, power_w, tick_s))


def _lived(stage: Stage, power_w: Float, tick_s: float) -> tuple[float, float]:
    """Mean wear, and the hottest die, of boards that draw `power_w` [T, N]."""
    setting = stage.setting
    state, light, hottest = setting.twin_start, LightTable(setting.schedule, setting.satellites), 0.0
    for tick, watts in enumerate(power_w):
        state = setting.twin.step(state, watts, light.at((tick + 0.5) * tick_s), tick_s)
        hottest = max(hottest, float(state.temperature_c.max()))
    return float(state.wear.mean()), hottest


def _sums(pairs: list[tuple[int, int]], ticks: int, groups: int, count: int) -> tuple[sparse.csr_array, ...]:
    """Over (tick, pair): the sum of every (tick, group), and of every (tick, node)."""
    tick, at = np.repeat(np.arange(ticks), len(pairs)), np.arange(ticks * len(pairs))
    ones = np.ones(len(at))
    return tuple(
        sparse.csr_array((ones, (tick * size + np.tile([p[k] for p in pairs], ticks), at)), (ticks * size, len(at)))
        for k, size in ((0, groups), (1, count))
    )


def _batteries(stage: Stage, idle: Course, tick_s: float) -> _Batteries:
    setting = stage.setting
    platform, battery, ticks = setting.twin.platform, setting.twin.platform.battery, len(idle.charge)
    charge = np.vstack((setting.twin_start.charge, idle.charge[:-1]))
    taken = np.maximum(charge - idle.charge, 0.0)
    depth = 1.0 - charge
    slope = _slope(depth + taken)
    drop = battery.series_ohm + battery.rc_ohm
    light = LightTable(setting.schedule, setting.satellites)
    lit = np.array([light.at((tick + 0.5) * tick_s) for tick in range(ticks)])
    harvest = solar_power_w(
        lit, setting.twin.sun_distance_au, platform.array_area_m2, platform.array_efficiency,
        platform.array_cos_incidence,
    )  # fmt: skip
    down_w = tick_s / (battery.discharge_efficiency * open_circuit_v(charge, drop) * battery.charge_c)
    least_v = float(open_circuit_v(setting.limits.charge_soft, drop))
    up_w = tick_s * battery.charge_efficiency / (least_v * battery.charge_c)
    surplus = np.maximum(harvest - platform.base_load_w - np.array(setting.idle_power_w), 0.0) * up_w
    most_w = np.full_like(down_w, up_w)
    found = (slope, slope - _slope(depth), taken, surplus, down_w, most_w, depth, 1.0 - idle.charge)
    return _Batteries(*(values.ravel() for values in found))


def _slope(depth: Float) -> Float:
    """f'(D) of the closed form."""
    power = 10.0 ** (DEPTH_EXPONENT * (depth - 1.0))
    return np.asarray(power * (1.0 + DEPTH_EXPONENT * np.log(10.0) * depth))


def _thermal(stage: Stage, tick_s: float, ticks: int, by_node: sparse.csr_array) -> tuple[sparse.csr_array, Float]:
    """Rows over (watts, then [tick, node, die and case]) that say how heat moves, and their right-hand side."""
    setting = stage.setting
    platform, network, count = setting.twin.platform, setting.twin.platform.thermal, len(setting.nodes)
    response = response_k_w(network, network.laplacian_w_k, tick_s)
    stay = np.eye(2) - network.laplacian_w_k @ response
    flows = ticks * count
    fixed = network.sink_w_k * network.sink_c + np.array([platform.environment_w, 0.0])
    right = (fixed + np.outer(np.array(setting.idle_power_w), [1.0, 0.0])) @ response
    value = np.tile(right, (ticks, 1, 1)).reshape(ticks, count, 2)
    value[0] += setting.twin_start.nodes_c @ stay
    warms = sparse.kron(by_node, response[0].reshape(2, 1))
    later = sparse.kron(sparse.eye_array(flows, k=-count), stay.T)
    states = sparse.eye_array(2 * flows) - later
    return sparse.csr_array(sparse.hstack((-warms, states))), value.ravel()
