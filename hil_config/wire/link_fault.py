"""A fault put on links while a run goes on: over the factual schedule, on every node alike."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from hil_config.errors import RemoteProtocolError
from hil_config.wire.link_state import DOWN, LinkState


class LinkFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="link_fault"):
    """Of the links between satellites `source` and `target`, both ways (an empty name is any), in scenario seconds.

    `up` False: an outage. Otherwise the rate is multiplied by `rate_factor`, `extra_delay_s` is added, and of the
    frames that would have come through `extra_loss` are lost. `end_s` null: to the end.
    """

    source: str = ""
    target: str = ""
    start_s: float = 0.0
    end_s: float | None = None
    up: bool = True
    rate_factor: float = 1.0
    extra_delay_s: float = 0.0
    extra_loss: float = 0.0

    def __post_init__(self) -> None:
        ends = math.inf if self.end_s is None else self.end_s
        if not (self.start_s >= 0.0 and ends > self.start_s):
            raise RemoteProtocolError(f"link fault: from {self.start_s} to {self.end_s} s, wanted 0 <= start < end")
        if not (0.0 < self.rate_factor <= 1.0 and 0.0 <= self.extra_delay_s <= 60.0 and 0.0 <= self.extra_loss <= 1.0):
            raise RemoteProtocolError(
                f"link fault: rate_factor {self.rate_factor}, extra_delay_s {self.extra_delay_s}, extra_loss"
                f" {self.extra_loss}: wanted above 0 to 1, 0 to 60, 0 to 1"
            )

    def touches(self, source: str, target: str, t: float) -> bool:
        """Whether it holds for this directed link at t."""
        if t < self.start_s or (self.end_s is not None and t >= self.end_s):
            return False
        ways = ((self.source, self.target), (self.target, self.source))
        return any(a in {"", source} and b in {"", target} for a, b in ways)


def faulted(link: LinkState, source: str, target: str, t: float, faults: Iterable[LinkFault]) -> LinkState:
    """The link under the faults that hold at t."""
    for fault in faults:
        if not link.up:
            return DOWN
        if fault.touches(source, target, t):
            if not fault.up:
                return DOWN
            link = LinkState(
                link.delay_s + fault.extra_delay_s,
                link.rate_bit_s * fault.rate_factor,
                1.0 - (1.0 - link.loss) * (1.0 - fault.extra_loss),
                True,
            )
    return link
