"""React to the state of charge: a host below a threshold serves only what nobody else can, at a price
(the reactive battery-state heuristic of arXiv 2603.04372, there the better one where energy is scarce)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.eligibility import eligible_hosts, listed, shortfall
from ground_controller.policies.options import within
from ground_controller.policies.sharing import plan_layers, with_trouble
from ground_controller.policies.topk import Stateless
from ground_controller.policies.view import Selection, View


@dataclass(frozen=True)
class ReactiveSoc:
    """Args: `margin` above the soft limit of charge below which a host is spared; `price` then, in gate units."""

    margin: float = 0.1
    price: float = 0.2
    name: ClassVar[str] = "reactive_soc"

    def __post_init__(self) -> None:
        within(self.name, "margin", self.margin, 0.0, 1.0)
        within(self.name, "price", self.price, 0.0)

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def select(self, state: Stateless, view: View) -> tuple[Stateless, Selection]:
        """Even shares over the replicas that are not spared."""
        low = (view.columns.charge < view.limits.charge_soft + self.margin).tolist()
        hosts = eligible_hosts(view)
        layers = plan_layers(hosts, lambda node: float(not low[node]), lambda node: self.price * low[node])
        named = listed(sorted(name for name, spared in zip(view.columns.names, low, strict=True) if spared))
        reason = f"spared for their charge: {named}" if named else "every charge is above the threshold"
        reason = with_trouble(reason, shortfall(view, hosts))
        return state, Selection(1.0, 1.0, 1, view.model.routing.top_k, 0.0, layers, reason)
