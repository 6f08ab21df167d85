"""Precision of frames, and rows not sent, by gate mass x layer sensitivity, within heat and bytes.

A frame over rows of mean squared mass m2 of a layer of sensitivity s gets the codec with the least

    s m2 error(codec) + price size(codec) / size(fp32)

(`models.serving.transmission`): the Lagrangian of least loss within a budget of bytes, so one price a link says it
all. The price of node i's frames is most_price max(w_i, q_i)^2: w_i its warmth, as a transmitter heats the bus it
sits in, and q_i the multiplier of its byte budget, moved by dual ascent, q <- clip(q + gain step (sent - budget) /
budget, 0, 1). The square makes the first steps small: between fp16 and int8 lie errors of 1e-4, between int4 and
nothing all. cf. arXiv 2604.04654, which masks and quantises hidden states by their importance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.options import within
from ground_controller.policies.resources import Resources, Sendings
from ground_controller.policies.transmitting import finest_codec, gateway_pairs
from ground_controller.policies.view import View
from ground_controller.policies.warmth import warmest, warmth
from hil_config.wire.plan import LinkRule, Transmission


@dataclass(frozen=True)
class Multipliers:
    """Of each node's byte budget, 0 to 1."""

    nodes: tuple[float, ...]


@dataclass(frozen=True)
class ImportanceSending:
    """Args.

    most_price: of a frame of a node at its limit: at 0.3 everything goes in int4, and rows below a fifth of the mass
        of the most sensitive layer do not go. margin_c, span_k: as of `by_heat`. budget_kbit_s: of each node's
        sending, host time (0: none). gain: of the multiplier, 1/s. finest: codec at ease (empty: the campaign's).
        drop: may rows be left out?
    """

    most_price: float = 0.3
    margin_c: float = 2.0
    span_k: float = 8.0
    budget_kbit_s: float = 0.0
    gain: float = 0.02
    finest: str = ""
    drop: bool = True
    name: ClassVar[str] = "importance"

    def __post_init__(self) -> None:
        within(self.name, "most_price", self.most_price, 0.0, 1e3)
        within(self.name, "margin_c", self.margin_c, 0.0)
        within(self.name, "span_k", self.span_k, 0.1)
        within(self.name, "budget_kbit_s", self.budget_kbit_s, 0.0)
        within(self.name, "gain", self.gain, 0.0)
        finest_codec(self.name, self.finest, "fp16")

    def start(self, nodes: int) -> Multipliers:
        return Multipliers((0.0,) * nodes)

    def rule(self, state: Multipliers, view: View, resources: Resources) -> tuple[Multipliers, Sendings]:
        """Move the multipliers by the tick that has passed, then price each sender."""
        budget = self.budget_kbit_s * 1e3
        over = [(sent - budget) / budget if budget > 0.0 else -1.0 for sent in resources.sent_bit_s]
        moved = tuple(
            min(max(q + self.gain * view.step_s * min(gap, 4.0), 0.0), 1.0)
            for q, gap in zip(state.nodes, over, strict=True)
        )
        warm = warmth(view, self.margin_c, self.span_k)
        price = [self.most_price * max(w, q) ** 2 for w, q in zip(warm, moved, strict=True)]
        rules = tuple(LinkRule(a, b, 0, price[a]) for a, b in gateway_pairs(view) if price[a] > 0.0)
        codec = finest_codec(self.name, self.finest, resources.codec)
        dearest = max(price, default=0.0)
        reason = f"{codec} at ease, frames priced up to {dearest:.3g} of a layer, {warmest(view)}"
        return Multipliers(moved), Sendings(Transmission(codec, rules, resources.sensitivity, self.drop), reason)
