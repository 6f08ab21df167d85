"""Prefer hosts in sunlight: their joules come from the array, not from the battery (LASER and SLIM, Hussein et al.,
GLOBECOM 2014). The model's own experts always; only who serves them changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.eligibility import eligible_hosts, shortfall
from ground_controller.policies.options import within
from ground_controller.policies.sharing import plan_layers, with_trouble
from ground_controller.policies.topk import NO_THRESHOLD, Stateless
from ground_controller.policies.view import Selection, View


@dataclass(frozen=True)
class SunlitFirst:
    """Args: `least_light` visible share of the Sun's disc from which a host counts as sunlit."""

    least_light: float = 0.5
    name: ClassVar[str] = "sunlit_first"

    def __post_init__(self) -> None:
        within(self.name, "least_light", self.least_light, 1e-3, 1.0)

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def select(self, state: Stateless, view: View) -> tuple[Stateless, Selection]:
        """Even shares over the sunlit replicas; over all where none is."""
        lit = (view.columns.sunlit >= self.least_light).tolist()
        hosts = eligible_hosts(view)
        layers = plan_layers(hosts, lambda node: float(lit[node]))
        k = view.model.routing.top_k
        reason = f"{sum(lit)} of {len(lit)} nodes are sunlit and serve first"
        return state, Selection(1.0, 1.0, k, k, NO_THRESHOLD, layers, with_trouble(reason, shortfall(view, hosts)))
