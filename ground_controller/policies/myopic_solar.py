"""Spend the sunlight there is now: rows in proportion to what the array gives, experts priced where it gives less than
the board draws (the myopic solar heuristic of arXiv 2603.04372, there the better one where the Sun is plenty)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.eligibility import eligible_hosts, shortfall
from ground_controller.policies.options import within
from ground_controller.policies.sharing import plan_layers, with_trouble
from ground_controller.policies.topk import Stateless
from ground_controller.policies.view import Selection, View


@dataclass(frozen=True)
class MyopicSolar:
    """Args: `price` gate units of a host without any sunlight; `floor_w` weight of a host in the dark."""

    price: float = 0.1
    floor_w: float = 0.5
    name: ClassVar[str] = "myopic_solar"

    def __post_init__(self) -> None:
        within(self.name, "price", self.price, 0.0)
        within(self.name, "floor_w", self.floor_w, 1e-6)

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def select(self, state: Stateless, view: View) -> tuple[Stateless, Selection]:
        """Shares by harvest; the price falls to 0 as the array covers the board."""
        harvest, power = view.columns.harvest_w.tolist(), view.columns.power_w.tolist()
        lack = [max(0.0, 1.0 - h / w) if w > 0.0 else 0.0 for h, w in zip(harvest, power, strict=True)]
        hosts = eligible_hosts(view)
        layers = plan_layers(hosts, lambda node: harvest[node] + self.floor_w, lambda node: self.price * lack[node])
        total = sum(sorted(harvest))
        reason = with_trouble(f"shares by the {total:.1f} W that the arrays give now", shortfall(view, hosts))
        return state, Selection(1.0, 1.0, 1, view.model.routing.top_k, 0.0, layers, reason)
