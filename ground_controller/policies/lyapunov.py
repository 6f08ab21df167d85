"""Drift plus penalty: trade gate mass against queues of energy debt and heat debt (cf. arXiv 2512.06784).

Each node n has two virtual queues, integrals over scenario time, so the length of a tick does not matter:

    Z_n <- [Z_n + (active power - allowance) step]+     in J     (spent beyond its allowance)
    Y_n <- [Y_n + (T_n - T_target) step]+               in K s   (degrees above target, for how long)

Each tick maximises V sum g - sum (Z_n e + Y_n dT) over picks and hosts. Divided by V that is utility = gate -
price with price = the cheapest eligible host's cost, taking experts while utility is above 0: what the gate
kernel does with scale 1, threshold 0, k_min 1 and k_max = the model's k.

Scales. A call costs 1e-4 to 1e-2 J and 1e-5 to 1e-3 K depending on board and model, so a V in joules would
have to be tuned per bench. The drift is weighted so that costs are relative instead: with e and dT divided
by their means over the nodes, a node of average cost prices at (Z / energy_scale_j + Y / heat_scale_k_s) /
v gate units. A gate is a probability; top picks are 0.2 to 0.9.

Heat. A board follows its load with a time constant near 200 s, so pricing the bare integral rings: damping
0.1 for a load that swings 1 W over half a gate unit behind 16 K/W. The queue priced is therefore the one
expected `heat_lead_s` from now at the present temperature, [Y + heat_lead_s (T - T_target)]+: with 60 s
that damping is about 0.8, and the price acts within a degree or two of the target instead of minutes later.

Gateways. Trunk work cannot be priced away, so each slice's nodes are put in the order of their cost: requests
that begin from then on take the cooler one.

Sharing. All rows to the cheapest host is the exact minimiser and flips from replica to replica every tick.
Shares proportional to exp(-(cost - least) / softness) are continuous in the state, even when costs are equal,
and give up at most softness x log(replicas) of the objective (the bound of an entropic regulariser).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from ground_controller.policies.eligibility import HostTable, eligible_hosts, shortfall
from ground_controller.policies.sharing import relative, shares
from ground_controller.policies.view import Selection, View
from hil_config.errors import ConfigError
from hil_config.wire.plan import GatewaySlice, LayerPlan, Share

QUEUE_CAP = 2.0
"""Largest price of one queue in gate units: no gate exceeds 1, and a queue that grew further would only delay
the return to normal."""


@dataclass(frozen=True)
class Queues:
    """Virtual queues per node: energy debt in J, heat debt in K s."""

    energy_j: tuple[float, ...]
    heat_k_s: tuple[float, ...]


@dataclass(frozen=True)
class Lyapunov:
    """Options of the policy.

    Args:
        v: weight of gate mass; larger keeps more accuracy and lets queues grow.
        margin_c: the target temperature is this far below the soft limit.
        energy_budget_w: active power (above idle) a node may spend for good.
        harvest_share: share of the array's power it may spend on top while the Sun shines.
        energy_scale_j, heat_scale_k_s: queue at which a node of average cost prices at 1 gate unit (v = 1).
        heat_lead_s: how far ahead the heat queue is taken.
        softness: gate units of cost over which replicas share.
        price_cap: most that an expert is charged, in gate units: how strong a pick may be and still be given
            away. It bounds the accuracy cost when the heat is not the experts' doing and no price can end it.
        hot_cap: the cap of an expert whose cheapest host is at the soft limit; between target and limit it rises in a
            straight line. None: it does not rise. Below the limit accuracy is worth the price cap; at the limit the
            host leaves service, which costs more than any single pick, so near it more may be given away.

    The default allowance is 1 W in the dark and 1 W + 10 % of the array's power in the sun: 3 W over an orbit
    of the default platform, near what its array gives beyond base load and an idle board. The energy scale
    is 1 W too much for 40 minutes, about one eclipse; the heat scale is 6 K too much for a minute.
    """

    v: float = 1.0
    margin_c: float = 5.0
    energy_budget_w: float = 1.0
    harvest_share: float = 0.1
    energy_scale_j: float = 2_400.0
    heat_scale_k_s: float = 360.0
    heat_lead_s: float = 60.0
    softness: float = 0.05
    price_cap: float = 0.1
    hot_cap: float | None = None

    name: ClassVar[str] = "lyapunov"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = self.most_price if field.name == "hot_cap" else getattr(self, field.name)
            positive = field.name in {"v", "energy_scale_j", "heat_scale_k_s", "softness", "price_cap"}
            if not math.isfinite(value) or value < 0.0 or (positive and value == 0.0):
                wanted = "more than 0" if positive else "at least 0"
                raise ConfigError(f"policy lyapunov: {field.name} is {value}, wanted {wanted}")

        if self.most_price < self.price_cap:
            raise ConfigError(f"policy lyapunov: hot_cap is {self.hot_cap}, wanted at least price_cap")

    @property
    def most_price(self) -> float:
        """The cap at the soft limit."""
        return self.price_cap if self.hot_cap is None else self.hot_cap

    def start(self, nodes: int) -> Queues:
        """Empty queues."""
        return Queues((0.0,) * nodes, (0.0,) * nodes)

    def select(self, state: Queues, view: View) -> tuple[Queues, Selection]:
        """Advance the queues by the tick that has passed, then price the next one."""
        queues = self._advance(state, view)
        cost = self._costs(queues, view)
        hosts = eligible_hosts(view)
        layers = self._layers(hosts, cost, self._caps(view))
        reason = self._reason(view, layers, max(cost, default=0.0) > 0.0)
        gateways = tuple(self.order_gateways(piece, view, cost) for piece in view.gateways)
        trouble = shortfall(view, hosts)
        reason += f"; {trouble}" if trouble else ""
        return queues, Selection(1.0, 1.0, 1, view.model.routing.top_k, 0.0, layers, reason, gateways)

    def _target_c(self, view: View) -> float:
        return view.limits.temperature_soft_c - self.margin_c

    def _advance(self, state: Queues, view: View) -> Queues:
        target = self._target_c(view)
        most_j = QUEUE_CAP * self.v * self.energy_scale_j
        most_k_s = QUEUE_CAP * self.v * self.heat_scale_k_s
        nodes = view.columns
        active_w = np.maximum(nodes.power_w - nodes.idle_power_w, 0.0)
        allowed_w = self.energy_budget_w + self.harvest_share * nodes.harvest_w
        energy = np.array(state.energy_j) + (active_w - allowed_w) * view.step_s
        heat = np.array(state.heat_k_s) + (nodes.temperature_c - target) * view.step_s
        return Queues(
            tuple(np.minimum(np.maximum(energy, 0.0), most_j).tolist()),
            tuple(np.minimum(np.maximum(heat, 0.0), most_k_s).tolist()),
        )

    def _costs(self, queues: Queues, view: View) -> tuple[float, ...]:
        """Cost of one call on each node, in gate units."""
        target = self._target_c(view)
        nodes = view.columns
        energy = np.array(relative(nodes.energy_per_call_j.tolist()))
        heat = np.array(relative(nodes.heating_per_call_k.tolist()))
        ahead = np.maximum(np.array(queues.heat_k_s) + self.heat_lead_s * (nodes.temperature_c - target), 0.0)
        z = np.array(queues.energy_j) / self.energy_scale_j
        y = ahead / self.heat_scale_k_s
        return tuple(((z * energy + y * heat) / self.v).tolist())

    def _caps(self, view: View) -> list[float]:
        """Most that an expert is charged whose cheapest host is this node, in gate units."""
        span = max(self.margin_c, 1e-9)
        near = np.clip((view.columns.temperature_c - self._target_c(view)) / span, 0.0, 1.0)
        found: list[float] = (self.price_cap + (self.most_price - self.price_cap) * near).tolist()
        return found

    def order_gateways(self, piece: GatewaySlice, view: View, cost: Sequence[float]) -> GatewaySlice:
        """The slice's nodes, cheapest first. A node overtakes another only if it is cheaper by `softness`: trunk
        work heats its node more than experts do, and each change of gateway waits for new requests."""
        at = {name: cost[view.columns.position[name]] for name in piece.nodes}
        nodes = list(piece.nodes)
        for name in piece.nodes[1:]:
            place = nodes.index(name)
            while place > 0 and at[name] + self.softness < at[nodes[place - 1]]:
                place -= 1
            nodes.remove(name)
            nodes.insert(place, name)
        return GatewaySlice(piece.first, piece.last, tuple(nodes))

    def _layers(self, hosts: HostTable, cost: Sequence[float], caps: Sequence[float]) -> tuple[LayerPlan, ...]:
        # Relative to the bench's least cost the weights of dear nodes would vanish: an expert's own least counts.
        known: dict[tuple[int, ...], tuple[float, tuple[Share, ...]]] = {}
        layers = []
        for layer in hosts:
            for held in layer:
                if held not in known:
                    least, cap = min(((cost[node], caps[node]) for node in held), default=(0.0, 0.0))
                    known[held] = (min(least, cap), self._shares(held, cost, least))
            found = [known[held] for held in layer]
            layers.append(
                LayerPlan(tuple([price for price, _ in found]), tuple([each for _, each in found]), (-1,) * len(found))
            )
        return tuple(layers)

    def _shares(self, held: Sequence[int], cost: Sequence[float], least: float) -> tuple[Share, ...]:
        return shares(held, lambda node: math.exp(-(cost[node] - least) / self.softness))

    def _reason(self, view: View, layers: Sequence[LayerPlan], acting: bool) -> str:
        nodes = view.columns
        hottest, lowest = nodes.hottest, nodes.lowest
        above = float(nodes.temperature_c[hottest]) - self._target_c(view)
        side = "above" if above >= 0.0 else "below"
        most = max((price for layer in layers for price in layer.price), default=0.0)
        priced = f"prices up to {most:.2f} gate, " if most >= 0.005 else ""
        done = (
            f"{priced}{nodes.names[hottest]} keeps {_share(view, layers, hottest):.0%} of the rows it could serve"
            if acting
            else "no queue weighs, so top-k as the model wants it"
        )
        return (
            f"{nodes.names[hottest]} is hottest at {nodes.temperature_c[hottest]:.1f} C, {abs(above):.1f} C {side} its"
            f" target; {nodes.names[lowest]} has the lowest charge, {nodes.charge[lowest]:.0%}; {done}"
        )


def _share(view: View, layers: Sequence[LayerPlan], index: int) -> float:
    """Share of the rows of the experts it holds that a node is given, mean over those experts."""
    given = [
        sum(share.weight for share in layer.hosts[expert] if share.node == index)
        for layer, holders in zip(layers, view.holders, strict=True)
        for expert, held in enumerate(holders)
        if index in held
    ]
    return math.fsum(given) / len(given) if given and view.columns.usable[index] else 0.0
