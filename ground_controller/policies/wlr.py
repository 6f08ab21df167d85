"""Weight-to-latency ratio: rank experts by g_i / t_i and leave out those below theta (arXiv 2405.03131, 2411.06681).

t_i is the round trip between the layer's gateway and the nearest host plus `compute_s`, over the mean of the layer,
so theta stays a number of gate units whatever the orbit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from ground_controller.policies.eligibility import eligible_hosts, layer_gateways, shortfall
from ground_controller.policies.options import within
from ground_controller.policies.sharing import plan_layers, relative, with_trouble
from ground_controller.policies.topk import Stateless
from ground_controller.policies.view import Selection, View
from hil_config.wire.plan import LayerPlan


@dataclass(frozen=True)
class Wlr:
    """Args: `theta` least ratio in gate units; `compute_s` seconds an expert takes besides the way to it."""

    theta: float = 0.1
    compute_s: float = 1e-3
    name: ClassVar[str] = "wlr"

    def __post_init__(self) -> None:
        within(self.name, "theta", self.theta, 0.0)
        within(self.name, "compute_s", self.compute_s, 1e-6)

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def select(self, state: Stateless, view: View) -> tuple[Stateless, Selection]:
        """Factors 1/t, threshold theta, rows to the nearest replicas."""
        hosts = eligible_hosts(view)
        layers: list[LayerPlan] = []
        for gateway, held in zip(layer_gateways(view), hosts, strict=True):
            layers.append(self._layer(view, gateway, held))
        k = view.model.routing.top_k
        reason = with_trouble(f"gate over latency, none below {self.theta:g}", shortfall(view, hosts))
        return state, Selection(1.0, 1.0, 1, k, self.theta, tuple(layers), reason)

    def _layer(self, view: View, gateway: int | None, held: tuple[tuple[int, ...], ...]) -> LayerPlan:
        def latency_s(node: int) -> float:
            way = 0.0 if gateway is None else float(view.delay_s[gateway, node] + view.delay_s[node, gateway])
            return way + self.compute_s

        nearest = [min((latency_s(node) for node in each), default=0.0) for each in held]
        (layer,) = plan_layers((held,), lambda node: 1.0 / latency_s(node))
        return msgspec.structs.replace(layer, factor=tuple(1.0 / t for t in relative(nearest)))
