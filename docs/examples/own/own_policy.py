"""A selection policy of one's own: the model's top-k, served by the replicas that have the most charge to spare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.eligibility import eligible_hosts
from ground_controller.policies.sharing import plan_layers
from ground_controller.policies.view import Selection, View


@dataclass(frozen=True)
class Nothing:
    """What this policy remembers from tick to tick. A policy that learns keeps numbers here, frozen and JSON-able."""


@dataclass(frozen=True)
class MostCharge:
    """Args: `reserve` state of charge that counts as nothing to spare."""

    reserve: float = 0.3
    name: ClassVar[str] = "most_charge"

    def start(self, nodes: int) -> Nothing:
        return Nothing()

    def select(self, state: Nothing, view: View) -> tuple[Nothing, Selection]:
        spare = (view.columns.charge - self.reserve).clip(0.0).tolist()
        layers = plan_layers(eligible_hosts(view), lambda node: float(spare[node]))
        k = view.model.routing.top_k
        best = max(range(len(spare)), key=spare.__getitem__)
        reason = f"{view.nodes[best].name} has the most charge to spare, {spare[best]:.2f}"
        return state, Selection(1.0, 1.0, k, k, -1e9, layers, reason)
