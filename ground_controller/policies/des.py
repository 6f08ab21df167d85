"""Dynamic expert selection: least energy whose gates still cover a layer's share of mass (arXiv 2503.13421).

    min sum_i a_i e_i    subject to    sum_i a_i g_i >= z gamma^layer,    sum_i a_i <= D,    a_i in {0, 1}

Taking experts in rising e_i / g_i until the mass is covered is the greedy of its linear relaxation, and exact but for
the last expert taken. In the kernel that is utility = g_i / e_i and a coverage for each layer. The mass is a share of
the model's own, so z gamma^layer is a share too; e_i is that of the cheapest host that may serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from ground_controller.policies.eligibility import eligible_hosts, shortfall
from ground_controller.policies.options import within
from ground_controller.policies.sharing import plan_layers, relative, with_trouble
from ground_controller.policies.topk import NO_THRESHOLD, Stateless
from ground_controller.policies.view import Selection, View


@dataclass(frozen=True)
class Des:
    """Args: `z` mass wanted of the first layer, `gamma` its decay from layer to layer."""

    z: float = 0.9
    gamma: float = 0.95
    name: ClassVar[str] = "des"

    def __post_init__(self) -> None:
        within(self.name, "z", self.z, 1e-6, 1.0)
        within(self.name, "gamma", self.gamma, 1e-6, 1.0)

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def select(self, state: Stateless, view: View) -> tuple[Stateless, Selection]:
        """Factors 1/e, a coverage a layer, rows to the replicas that spend least."""
        hosts = eligible_hosts(view)
        energy = relative(view.columns.energy_per_call_j.tolist())
        layers = tuple(
            msgspec.structs.replace(
                layer,
                factor=tuple(1.0 / min((energy[n] for n in held), default=1.0) for held in hosts[number]),
                coverage=max(self.z * self.gamma**number, 1e-6),
            )
            for number, layer in enumerate(plan_layers(hosts, lambda node: 1.0 / energy[node]))
        )
        k = view.model.routing.top_k
        last = self.z * self.gamma ** (view.model.layers - 1)
        reason = f"least energy that covers {self.z:.0%} of the mass in the first layer, {last:.0%} in the last"
        reason = with_trouble(reason, shortfall(view, hosts))
        return state, Selection(1.0, 1.0, 1, k, NO_THRESHOLD, layers, reason)
