"""The offset between two monotonic clocks from exchanges with four timestamps (RFC 5905, section 8). Pure.

An exchange is sent here at t1, received there at t2, answered there at t3 and back here at t4. Its offset is
((t2 - t1) + (t3 - t4)) / 2 and its delay (t4 - t1) - (t3 - t2); whatever the way out and the way back share of the
delay, the offset is wrong by at most half of it. Queues only ever add delay, so the exchange with the least is the
best witness (minimum filter), and half its delay is the bound that is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hil_config.errors import RemoteProtocolError


class Exchange(NamedTuple):
    """Nanoseconds: `sent_ns` and `back_ns` of this clock, `received_ns` and `answered_ns` of the other."""

    sent_ns: int
    received_ns: int
    answered_ns: int
    back_ns: int

    @property
    def delay_ns(self) -> int:
        """Time on the way, both directions."""
        return (self.back_ns - self.sent_ns) - (self.answered_ns - self.received_ns)

    @property
    def offset_ns(self) -> int:
        """The other clock minus this one."""
        return ((self.received_ns - self.sent_ns) + (self.answered_ns - self.back_ns)) // 2


class Offset(NamedTuple):
    """The other clock minus this one, and the most by which that can be wrong."""

    offset_ns: int
    uncertainty_ns: int


def estimate(exchanges: Sequence[Exchange]) -> Offset:
    """The offset of the quickest exchange. RemoteProtocolError if a timestamp runs backwards, or there is none."""
    for one in exchanges:
        if one.answered_ns < one.received_ns or one.delay_ns < 0:
            raise RemoteProtocolError(f"clock exchange {tuple(one)}: a timestamp runs backwards")
    if not exchanges:
        raise RemoteProtocolError("no clock exchange came back")
    best = min(exchanges, key=lambda one: one.delay_ns)
    return Offset(best.offset_ns, (best.delay_ns + 1) // 2)
