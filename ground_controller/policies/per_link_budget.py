"""The finest codec with which a frame arrives in time: bytes <= rate (deadline - delay) / 8, link by link.

The gateway knows a frame's rows; the ground says how many bytes the link carries until the deadline. A frame that
fits in no codec goes in the smallest one: late is better than never.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.options import within
from ground_controller.policies.resources import Resources, Sendings
from ground_controller.policies.topk import Stateless
from ground_controller.policies.transmitting import finest_codec, gateway_pairs
from ground_controller.policies.view import View
from hil_config.wire.plan import LinkRule, Transmission

MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class PerLinkBudget:
    """Args: `deadline_ms` from a frame's begin to its arrival; `finest` codec (empty: the campaign's)."""

    deadline_ms: float = 20.0
    finest: str = ""
    name: ClassVar[str] = "per_link_budget"

    def __post_init__(self) -> None:
        within(self.name, "deadline_ms", self.deadline_ms, 0.01)
        finest_codec(self.name, self.finest, "fp16")

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def rule(self, state: Stateless, view: View, resources: Resources) -> tuple[Stateless, Sendings]:
        """A bound for each link that is up."""
        rules, tight = [], (MOST_BYTES, "")
        for a, b in gateway_pairs(view):
            rate, delay = float(resources.rate_bit_s[a, b]), float(view.delay_s[a, b])
            if rate <= 0.0 or not math.isfinite(delay):
                continue
            # At least one byte: 0 would mean no bound.
            left_s = max(self.deadline_ms / 1e3 - delay, 0.0)
            most = int(min(max(rate * left_s / 8.0, 1.0), MOST_BYTES)) if math.isfinite(rate) else MOST_BYTES
            rules.append(LinkRule(a, b, most, 0.0))
            tight = min(tight, (most, f"{view.nodes[a].name} to {view.nodes[b].name}"))
        codec = finest_codec(self.name, self.finest, resources.codec)
        where = f", least {tight[0]} bytes from {tight[1]}" if tight[1] else ""
        reason = f"{codec} or what arrives within {self.deadline_ms:g} ms{where}"
        return state, Sendings(Transmission(codec, tuple(rules)), reason)
