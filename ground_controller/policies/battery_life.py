"""Price an expert by the life its energy takes from a battery: price = weight e L'(D).

L'(D) = 10^{A (D - 1)} (1 + A ln 10 D), the slope of the wear of depth of discharge (Yang et al., IEEE JSAC 34(12),
2016): the same joule costs more in a battery that is further down. e is relative to the nodes' mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ground_controller.physics.ageing import DEPTH_EXPONENT
from ground_controller.policies.eligibility import eligible_hosts, shortfall
from ground_controller.policies.options import within
from ground_controller.policies.sharing import plan_layers, relative, with_trouble
from ground_controller.policies.topk import Stateless
from ground_controller.policies.view import Selection, View


def wear_slope(depth: float, exponent: float = DEPTH_EXPONENT) -> float:
    """L'(D)."""
    return math.pow(10.0, exponent * (depth - 1.0)) * (1.0 + exponent * math.log(10.0) * depth)


@dataclass(frozen=True)
class BatteryLife:
    """Args: `weight` gate units of an average call in a battery half empty; `softness` how sharply replicas differ."""

    weight: float = 0.05
    softness: float = 0.25
    name: ClassVar[str] = "battery_life"

    def __post_init__(self) -> None:
        within(self.name, "weight", self.weight, 0.0)
        within(self.name, "softness", self.softness, 1e-3)

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def select(self, state: Stateless, view: View) -> tuple[Stateless, Selection]:
        """Rows to the replicas that wear least, experts priced at that wear."""
        nodes = view.columns
        energy = relative(nodes.energy_per_call_j.tolist())
        half = wear_slope(0.5)
        cost = [e * wear_slope(1.0 - charge) / half for e, charge in zip(energy, nodes.charge.tolist(), strict=True)]
        least = min(cost, default=0.0)
        hosts = eligible_hosts(view)
        layers = plan_layers(
            hosts, lambda node: math.exp(-(cost[node] - least) / self.softness), lambda node: self.weight * cost[node]
        )
        lowest = nodes.lowest
        reason = f"prices by wear of the batteries, {nodes.names[lowest]} is lowest at {nodes.charge[lowest]:.0%}"
        reason = with_trouble(reason, shortfall(view, hosts))
        return state, Selection(1.0, 1.0, 1, view.model.routing.top_k, 0.0, layers, reason)
