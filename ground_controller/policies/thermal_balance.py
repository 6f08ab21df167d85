"""Shares in proportion to thermal headroom, and evacuation of a host that comes too close (arXiv 2606.26150).

headroom_n = [T_soft - margin - T_n]+. A host without headroom serves only experts that nobody else can; where every
replica lacks it, the expert is priced as well. An evacuated host returns once it has cooled by `return_k`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.eligibility import eligible_hosts, listed, shortfall
from ground_controller.policies.options import within
from ground_controller.policies.sharing import plan_layers, with_trouble
from ground_controller.policies.view import Selection, View


@dataclass(frozen=True)
class Evacuated:
    """Which nodes are evacuated, in the order of the bench."""

    nodes: tuple[bool, ...]


@dataclass(frozen=True)
class ThermalBalance:
    """Args: `margin_c` below the soft limit, `return_k` of cooling before work returns, `price` in gate units."""

    margin_c: float = 2.0
    return_k: float = 3.0
    price: float = 0.3
    name: ClassVar[str] = "thermal_balance"

    def __post_init__(self) -> None:
        within(self.name, "margin_c", self.margin_c, 0.0)
        within(self.name, "return_k", self.return_k, 0.0)
        within(self.name, "price", self.price, 0.0)

    def start(self, nodes: int) -> Evacuated:
        return Evacuated((False,) * nodes)

    def select(self, state: Evacuated, view: View) -> tuple[Evacuated, Selection]:
        """Evacuate and bring back, then share by headroom."""
        nodes = view.columns
        temperature_c = nodes.temperature_c.tolist()
        target = view.limits.temperature_soft_c - self.margin_c
        away = tuple(
            warm > target - (self.return_k if was else 0.0)
            for warm, was in zip(temperature_c, state.nodes, strict=True)
        )
        headroom = [0.0 if out else target - warm for warm, out in zip(temperature_c, away, strict=True)]
        hosts = eligible_hosts(view)
        layers = plan_layers(hosts, lambda node: headroom[node], lambda node: self.price * away[node])
        named = listed(sorted(name for name, out in zip(nodes.names, away, strict=True) if out))
        hottest = nodes.hottest
        reason = f"shares by headroom, {nodes.names[hottest]} is hottest at {temperature_c[hottest]:.1f} C"
        reason += f"; evacuated: {named}" if named else ""
        reason = with_trouble(reason, shortfall(view, hosts))
        return Evacuated(away), Selection(1.0, 1.0, 1, view.model.routing.top_k, 0.0, layers, reason)
