"""The baseline: the model's own top-k, spread evenly over every replica that may serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.eligibility import eligible_hosts, shortfall
from ground_controller.policies.sharing import even, plan_layers
from ground_controller.policies.view import Selection, View

NO_THRESHOLD = -1e9
"""Below any utility. JSON has no infinity."""


@dataclass(frozen=True)
class Stateless:
    """The state of a policy that remembers nothing."""


@dataclass(frozen=True)
class TopK:
    """Price 0, coverage 1 and k_min = k_max = the model's k: the gate then picks what the model would."""

    name: ClassVar[str] = "topk"

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def select(self, state: Stateless, view: View) -> tuple[Stateless, Selection]:
        """Even shares over eligible replicas."""
        hosts = eligible_hosts(view)
        layers = plan_layers(hosts, even)
        k = view.model.routing.top_k
        trouble = shortfall(view, hosts)
        reason = f"the model's own top {k}, rows spread evenly over replicas" + (f"; {trouble}" if trouble else "")
        return state, Selection(1.0, 1.0, k, k, NO_THRESHOLD, layers, reason)
