"""Replace an expert by a similar one, or skip it, where serving it costs more than that loses (arXiv 2603.23888).

For an expert e whose host costs c_e: a substitute f that is served anyway costs c_f + g d(e, f), skipping costs g. With
d from calibration (squared distance of outputs relative to the expert's own; 1 is as bad as leaving it out) and g
the expert's usual gate, e is replaced when c_f + g d < min(c_e, g); skipping is left to the price.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from ground_controller.policies.battery_life import wear_slope
from ground_controller.policies.eligibility import HostTable, eligible_hosts, shortfall
from ground_controller.policies.options import within
from ground_controller.policies.sharing import plan_layers, relative, with_trouble
from ground_controller.policies.topk import Stateless
from ground_controller.policies.view import Selection, View


@dataclass(frozen=True)
class Sift:
    """Args: `weight` gate units of an average call in a battery half empty; `heat_weight` of one degree of a host
    above its soft limit less 5 C; `most_error` of a substitute."""

    weight: float = 0.05
    heat_weight: float = 0.02
    most_error: float = 0.9
    name: ClassVar[str] = "sift"

    def __post_init__(self) -> None:
        within(self.name, "weight", self.weight, 0.0)
        within(self.name, "heat_weight", self.heat_weight, 0.0)
        within(self.name, "most_error", self.most_error, 0.0, 1.0)

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def select(self, state: Stateless, view: View) -> tuple[Stateless, Selection]:
        """Prices by wear and heat; substitutes where they pay."""
        nodes = view.columns
        energy = relative(nodes.energy_per_call_j.tolist())
        half = wear_slope(0.5)
        warm = view.limits.temperature_soft_c - 5.0
        cost = [
            self.weight * e * wear_slope(1.0 - charge) / half + self.heat_weight * max(0.0, temperature_c - warm)
            for e, charge, temperature_c in zip(
                energy, nodes.charge.tolist(), nodes.temperature_c.tolist(), strict=True
            )
        ]
        hosts = eligible_hosts(view)
        least = min(cost, default=0.0)
        layers, replaced = [], 0
        for number, layer in enumerate(plan_layers(hosts, lambda n: 1.0 / (1e-3 + cost[n] - least), lambda n: cost[n])):
            other = self._substitutes(view, hosts, cost, number)
            replaced += sum(e >= 0 for e in other)
            layers.append(msgspec.structs.replace(layer, substitute=other))
        known = "" if view.substitute else "; no similarity was calibrated for this model"
        reason = with_trouble(f"{replaced} experts replaced by similar ones{known}", shortfall(view, hosts))
        return state, Selection(1.0, 1.0, 1, view.model.routing.top_k, 0.0, tuple(layers), reason)

    def _substitutes(self, view: View, hosts: HostTable, cost: list[float], layer: int) -> tuple[int, ...]:
        experts = view.model.experts
        if not view.substitute:
            return (-1,) * experts
        price = [min((cost[n] for n in held), default=float("inf")) for held in hosts[layer]]
        answer = []
        for expert in range(experts):
            other, error = view.substitute[layer][expert], view.substitute_error[layer][expert]
            gate = min(1.0, view.model.activation[layer][expert])
            pays = other >= 0 and bool(hosts[layer][other]) and error <= self.most_error
            # An expert nobody holds now is better replaced than left out; its hosts stay as they are: none.
            answer.append(other if pays and price[other] + gate * error < min(price[expert], gate) else -1)
        return tuple(answer)
