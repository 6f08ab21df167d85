"""Move experts away from a node before the forecast takes it out of service, if that costs less than it saves.

The outlook says when each node will be beyond a soft limit at its present power: T_h = base_h + sum_j R_hj P, and the
charge by the energy balance of array, bus and board. A node that is in trouble within `ahead_s`, for `patience` ticks
in a row, gives away those of its experts that no untroubled node holds, busiest first, to the untroubled node with
room that stays coolest, if

    the target keeps `spare_k` below its soft limit all the while              (it must not be the next to go)
    bits J/bit <= worth_j x calls the expert would miss while the node is away (the move's own energy pays)
    the expert has not moved within `rest_s`                                   (hysteresis)

at most `most` at a time. With `copy` the source keeps its own and serves again when it is back; without, it drops it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.eligibility import layer_gateways, reachable, usable
from ground_controller.policies.options import within
from ground_controller.policies.resources import Move, Moves, Resources
from ground_controller.policies.view import Outlook, View


@dataclass(frozen=True)
class Watch:
    """`ticks`: of each node, in a row, with trouble ahead; `moved`: (layer, expert, scenario second) of late moves."""

    ticks: tuple[int, ...]
    moved: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class Ahead:
    """Of one node: when trouble begins and ends (s from now; infinity: never), its hottest, and why."""

    begins_s: float
    ends_s: float
    hottest_c: float
    why: str


@dataclass(frozen=True)
class Forecast:
    """Options: see above."""

    ahead_s: float = 600.0
    patience: int = 3
    spare_k: float = 4.0
    worth_j: float = 0.01
    rest_s: float = 1800.0
    most: int = 4
    copy: bool = True
    name: ClassVar[str] = "forecast"
    looks_ahead: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within(self.name, "ahead_s", self.ahead_s, 1.0)
        within(self.name, "patience", self.patience, 1)
        within(self.name, "spare_k", self.spare_k, 0.0)
        within(self.name, "worth_j", self.worth_j, 0.0)
        within(self.name, "rest_s", self.rest_s, 0.0)
        within(self.name, "most", self.most, 1)

    def start(self, nodes: int) -> Watch:
        return Watch((0,) * nodes, ())

    def move(self, state: Watch, view: View, resources: Resources) -> tuple[Watch, Moves]:
        """Look ahead, count, and move what must not be lost."""
        ahead = self._ahead(view)
        ticks = tuple(
            count + 1 if one.begins_s <= self.ahead_s and node.alive else 0
            for count, one, node in zip(state.ticks, ahead, view.nodes, strict=True)
        )
        fresh = tuple(one for one in state.moved if view.scenario_s - one[2] < self.rest_s)
        moves = self._moves(view, resources, ahead, ticks, {(layer, expert) for layer, expert, _ in fresh})
        state = Watch(ticks, (*fresh, *((one.layer, one.expert, view.scenario_s) for one in moves)))
        return state, Moves(moves, self._reason(view, ahead, ticks, moves))

    def _ahead(self, view: View) -> tuple[Ahead, ...]:
        if view.outlook is None:
            return tuple(Ahead(0.0 if not usable(n) else math.inf, math.inf, n.temperature_c, "") for n in view.nodes)
        return tuple(_look(view, view.outlook, index) for index in range(len(view.nodes)))

    def _moves(
        self, view: View, resources: Resources, ahead: tuple[Ahead, ...], ticks: tuple[int, ...],
        resting: set[tuple[int, int]],
    ) -> tuple[Move, ...]:  # fmt: skip
        leaving = {index for index, count in enumerate(ticks) if count >= self.patience}
        sound = [
            index for index, (one, node) in enumerate(zip(ahead, view.nodes, strict=True))
            if usable(node) and ticks[index] == 0 and one.begins_s > self.ahead_s
        ]  # fmt: skip
        room = list(resources.free_slots)
        gates = layer_gateways(view)
        near = {gate: reachable(view, gate) for gate in set(gates) if gate is not None}
        busy = view.model.activation
        lost = [
            (layer, expert, next(n for n in held if n in leaving))
            for layer, row in enumerate(view.holders)
            for expert, held in enumerate(row)
            if leaving.intersection(held) and not set(held).intersection(sound) and (layer, expert) not in resting
        ]
        moves: list[Move] = []
        for layer, expert, source in sorted(lost, key=lambda one: (-busy[one[0]][one[1]], one[:2])):
            if resources.moving + len(moves) >= self.most:
                break
            gate = gates[layer]
            targets = [
                n for n in sound
                if room[n] > 0 and n not in view.holders[layer][expert]
                and (gate is None or n in near[gate])
                and ahead[n].hottest_c <= view.limits.temperature_soft_c - self.spare_k
            ]  # fmt: skip
            if not targets or not self._pays(view, resources, ahead[source], layer, expert, source):
                continue
            target = min(targets, key=lambda n: (ahead[n].hottest_c, view.nodes[n].name))
            room[target] -= 1
            moves.append(Move(layer, expert, source, target, self.copy))
        return tuple(moves)

    def _pays(self, view: View, resources: Resources, ahead: Ahead, layer: int, expert: int, source: int) -> bool:
        """Is the energy of the way there less than what the calls that would be missed are worth?"""
        held = [(n, e) for n, row in enumerate(view.holders) for e, nodes in enumerate(row) if source in nodes]
        whole = math.fsum(view.model.activation[n][e] for n, e in held)
        rate = view.outlook.rate if view.outlook is not None else 1.0
        away_s = min(ahead.ends_s, ahead.begins_s + self.ahead_s) - ahead.begins_s
        share = view.model.activation[layer][expert] / whole if whole > 0.0 else 0.0
        missed = view.nodes[source].calls_per_s * share * away_s / rate
        return resources.expert_bits * resources.transmit_j_per_bit <= self.worth_j * missed

    def _reason(self, view: View, ahead: tuple[Ahead, ...], ticks: tuple[int, ...], moves: tuple[Move, ...]) -> str:
        names = [node.name for node in view.nodes]
        if moves:
            told = ", ".join(f"{m.layer}/{m.expert} {names[m.source]} to {names[m.target]}" for m in moves)
            why = {names[m.source]: ahead[m.source].why for m in moves}
            return f"moves {told}; " + "; ".join(f"{name}: {text}" for name, text in sorted(why.items()))
        seen = sorted((ahead[index].begins_s, names[index], ahead[index].why) for index, n in enumerate(ticks) if n)
        return f"{seen[0][1]}: {seen[0][2]}; nothing to move for it" if seen else "no trouble ahead"


def _look(view: View, outlook: Outlook, index: int) -> Ahead:
    """Trouble of one node at its present power."""
    node, limits = view.nodes[index], view.limits
    power, charge, t = outlook.power_w[index], node.charge, 0.0
    hottest = node.temperature_c
    begins, ends, why = (0.0, math.inf, f"{node.name} takes no work") if not usable(node) else (math.inf, math.inf, "")
    load = power + outlook.base_load_w
    for h, length in enumerate(outlook.period_s):
        warm = outlook.base_c[h][index] + power * math.fsum(outlook.warming_k_w[h][: h + 1])
        spare = outlook.harvest_w[h][index] - load
        stored = spare * outlook.charge_efficiency if spare > 0.0 else spare / outlook.discharge_efficiency
        charge = min(max(charge + stored * length / outlook.battery_j, 0.0), 1.0)
        t += length
        hottest = max(hottest, warm)
        hot, low = warm > limits.temperature_soft_c, charge < limits.charge_soft
        if (hot or low) and math.isinf(begins):
            begins = t - length if h else 0.0
            why = f"{warm:.1f} C in {t:.0f} s" if hot else f"charge {charge:.0%} in {t:.0f} s"
        elif not (hot or low) and math.isfinite(begins) and math.isinf(ends):
            ends = t
    return Ahead(begins, ends, hottest, why)
