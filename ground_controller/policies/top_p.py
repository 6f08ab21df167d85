"""Dynamic routing by confidence: the smallest sorted prefix of experts whose mixing mass reaches p (arXiv 2403.07652).

With weights normalised over the model's k, mass is a share of what top-k would mix, so p = 1 is plain top-k; a row with
a confident router uses fewer experts. Never more than the model's k: shards are trained for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.eligibility import eligible_hosts, shortfall
from ground_controller.policies.options import within
from ground_controller.policies.sharing import even, plan_layers, with_trouble
from ground_controller.policies.topk import NO_THRESHOLD, Stateless
from ground_controller.policies.view import Selection, View


@dataclass(frozen=True)
class TopP:
    """Args: `p` mass to cover, 0 to 1."""

    p: float = 0.8
    name: ClassVar[str] = "top_p"

    def __post_init__(self) -> None:
        within(self.name, "p", self.p, 1e-6, 1.0)

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def select(self, state: Stateless, view: View) -> tuple[Stateless, Selection]:
        """Coverage p, even shares."""
        hosts = eligible_hosts(view)
        k = view.model.routing.top_k
        reason = f"experts until {self.p:.0%} of the mixing mass is covered, at most {k}"
        layers = plan_layers(hosts, even)
        reason = with_trouble(reason, shortfall(view, hosts))
        return state, Selection(1.0, self.p, 1, k, NO_THRESHOLD, layers, reason)
