"""Ours: the orbit is known in advance, so put work where an orbit ahead lacks least.

Each tick a convex program over one orbit (`foresight`) spreads the rows over hosts and time, with the eclipses, the
arrays' power and the warming of every board in it. What it gives for now is used as it is:

    shares ~ exp(-u_n)     u_n: what a watt on node n now costs the orbit in wear, low charge and heat
    price  = least p_n over an expert's hosts     p_n: gate units for the kelvins over target that are ahead

so an expert is priced only where all of its hosts come over their target, and never for wear: rows that a battery
would rather not serve go to another battery. Gateways are put in the order of p, as in `lyapunov`.

Without an outlook, without rows, or where the bench is larger than `most_nodes`, `lyapunov` answers, whose queues are
kept up to date meanwhile. All limits count rounds, never seconds, so a replay decides the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ground_controller.policies.eligibility import HostTable, eligible_hosts, shortfall
from ground_controller.policies.foresight import Plan, Problem, descend
from ground_controller.policies.lyapunov import Lyapunov, Queues
from ground_controller.policies.options import within
from ground_controller.policies.sharing import plan_layers, relative, with_trouble
from ground_controller.policies.view import Outlook, Selection, View

LEAST_CALLS_S = 1e-6
SHORT_PERIODS = 3
"""Periods that begin from the potentials of the tick before."""


@dataclass(frozen=True)
class Foresight:
    """Potentials of now per node, in the order of the bench, and the queues of the fallback."""

    potential: tuple[float, ...]
    queues: Queues


@dataclass(frozen=True)
class Horizon:
    """Options.

    Args:
        margin_c, margin_charge: targets lie this far inside the soft limits.
        band_k, band_charge: the potential of heat and of low charge begins this far before the target.
        heat, low: potentials at the target. wear: potential of a unit of wear by charge; 0: do not look at wear.
        price_per_k: gate units an expert is charged for a kelvin ahead over target on its coolest host.
        price_cap: most that an expert is charged. give: share of the rows expected to be given up at that price.
        coverage: mixing mass to cover as in `top_p`; 1: the model's own number of experts.
        rounds: of the descent. most_nodes: above it `lyapunov` answers.
    """

    margin_c: float = 2.0
    margin_charge: float = 0.03
    band_k: float = 4.0
    band_charge: float = 0.05
    heat: float = 6.0
    low: float = 6.0
    wear: float = 12.0
    price_per_k: float = 0.3
    price_cap: float = 0.5
    give: float = 0.4
    coverage: float = 1.0
    rounds: int = 40
    most_nodes: int = 64

    name: ClassVar[str] = "horizon"
    looks_ahead: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for option in ("margin_c", "margin_charge", "heat", "low", "wear", "price_per_k"):
            within(self.name, option, getattr(self, option), 0.0)
        for option in ("band_k", "band_charge", "price_cap"):
            within(self.name, option, getattr(self, option), 1e-6)
        within(self.name, "give", self.give, 0.0, 1.0)
        within(self.name, "coverage", self.coverage, 1e-6, 1.0)
        within(self.name, "rounds", self.rounds, 1)
        within(self.name, "most_nodes", self.most_nodes, 0)

    def start(self, nodes: int) -> Foresight:
        return Foresight((0.0,) * nodes, Lyapunov().start(nodes))

    def select(self, state: Foresight, view: View) -> tuple[Foresight, Selection]:
        """Look ahead, share, price."""
        queues, fallback = Lyapunov().select(state.queues, view)
        hosts = eligible_hosts(view)
        order = sorted(range(len(view.nodes)), key=view.columns.names.__getitem__)
        problem = self._problem(view, view.outlook, hosts, order) if view.outlook else None
        if problem is None:
            why = "there is no outlook" if view.outlook is None else "there are no rows or too many nodes"
            told = f"{why}, so as lyapunov: {fallback.reason}"
            return replace(state, queues=queues), replace(fallback, coverage=self.coverage, reason=told)
        begin = np.zeros_like(problem.harvest_w)
        begin[:SHORT_PERIODS] = [state.potential[n] for n in order]
        plan = descend(problem, begin, self.rounds)
        potential, price = [0.0] * len(order), [0.0] * len(order)
        for place, node in enumerate(order):
            potential[node] = round(float(plan.potential[0, place]), 6)
            price[node] = round(float(plan.price[0, place]), 6)
        layers = plan_layers(hosts, _weigh(potential, hosts), lambda node: price[node])
        gateways = tuple(Lyapunov().order_gateways(piece, view, price) for piece in view.gateways)
        reason = with_trouble(_reason(view, order, plan), shortfall(view, hosts))
        k = view.model.routing.top_k
        return Foresight(tuple(potential), queues), Selection(1.0, self.coverage, 1, k, 0.0, layers, reason, gateways)

    def _problem(self, view: View, outlook: Outlook, hosts: HostTable, order: list[int]) -> Problem | None:
        """The program with nodes by name, or None without rows, or where it would be too large."""
        place = {node: at for at, node in enumerate(order)}
        groups: dict[tuple[int, ...], float] = {}
        for layer, activation in zip(hosts, view.model.activation, strict=True):
            for held, share in zip(layer, activation, strict=True):
                key = tuple(sorted(place[node] for node in held))
                if key:
                    groups[key] = groups.get(key, 0.0) + share
        keys = sorted(groups)
        total = math.fsum(groups[key] for key in keys)
        nodes = view.columns
        served_s = math.fsum(nodes.calls_per_s.tolist()) / outlook.rate
        if not keys or len(order) > self.most_nodes or total <= 0.0 or served_s < LEAST_CALLS_S:
            return None
        # What was served, and what top-k would have asked for beyond it; with a coverage that was never to be served.
        asked = view.model.routing.top_k / max(view.experts_per_row, 0.1) if self.coverage == 1.0 else 1.0
        calls_s = served_s * max(asked, 1.0)
        call_j = nodes.energy_per_call_j[order]
        experts_w = call_j * nodes.calls_per_s[order] / outlook.rate
        table = np.array([key + (key[0],) * (max(map(len, keys)) - len(key)) for key in keys])
        host = np.array([[r < len(key) for r in range(table.shape[1])] for key in keys])
        demand = np.array([calls_s * groups[key] / total for key in keys])
        return Problem(
            period_s=outlook.period_s, harvest_w=outlook.harvest_w[:, order],
            base_c=outlook.base_c[:, order], warming_k_w=outlook.warming_k_w,
            power_w=np.maximum(outlook.power_w[order] - experts_w, 0.0),
            charge=nodes.charge[order], hosts=table, host=host,
            group_w=demand[:, None] * call_j[table] * host, relative_j=np.array(relative(call_j.tolist())),
            base_load_w=outlook.base_load_w, battery_j=outlook.battery_j,
            charge_efficiency=outlook.charge_efficiency, discharge_efficiency=outlook.discharge_efficiency,
            target_c=view.limits.temperature_soft_c - self.margin_c, band_k=self.band_k,
            least_charge=view.limits.charge_soft + self.margin_charge, band_charge=self.band_charge,
            heat=self.heat, low=self.low, wear=self.wear, price_per_k=self.price_per_k, price_cap=self.price_cap,
            give=self.give,
        )  # fmt: skip


def _weigh(potential: Sequence[float], hosts: HostTable) -> Callable[[int], float]:
    """Weights exp(-u), from the least potential of a node that serves at all."""
    least = min((potential[node] for layer in hosts for held in layer for node in held), default=0.0)
    return lambda node: math.exp(least - potential[node])


def _reason(view: View, order: Sequence[int], plan: Plan) -> str:
    hottest = int(plan.temperature_c.max(axis=0).argmax())
    emptiest = int(plan.charge.min(axis=0).argmin())
    dearest = int(plan.potential[0].argmax())
    name = [view.columns.names[n] for n in order]
    told = (
        f"one orbit ahead {name[hottest]} is hottest with {plan.temperature_c[:, hottest].max():.1f} C and"
        f" {name[emptiest]} lowest with {plan.charge[:, emptiest].min():.0%}"
    )
    if plan.potential[0].max() - plan.potential[0].min() < 0.01:
        told += "; no node is to be spared"
    else:
        told += f"; {name[dearest]} is spared most now"
    most = float(plan.price[0].max())
    return f"{told}; a pick costs up to {most:.2f} gate" if most >= 0.005 else told
