"""The user-space link shaper: when a frame that is sent now may arrive. Pure; the caller brings the time.

A frame first occupies the line for its serialisation time (size / rate) after whatever is on it, then
travels for the delay. Frames of one link never overtake each other, as on a real point-to-point link.
"""

from __future__ import annotations

from typing import NamedTuple

from hil_config.wire.schedule_file import LinkState

MAX_QUEUE_S = 30.0
"""A frame that would wait longer for the line is refused: bounded queues end to end."""


class Slot(NamedTuple):
    """`arrive_s`: when to hand the frame to the peer; `delay_s`: that minus now."""

    arrive_s: float
    delay_s: float


class Shaper:
    """State of one direction of one link. Times are host seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._line_free_s = 0.0
        self._last_arrival_s = 0.0

    def admit(self, size: int, link: LinkState, now_s: float) -> Slot | None:
        """When a frame of `size` bytes sent at `now_s` arrives; None if the link is down or its queue full."""
        if not link.up or link.rate_bit_s <= 0.0:
            return None
        start_s = max(now_s, self._line_free_s)
        if start_s - now_s > MAX_QUEUE_S:
            return None
        self._line_free_s = start_s + 8.0 * size / link.rate_bit_s
        arrive_s = max(self._line_free_s + link.delay_s, self._last_arrival_s)
        self._last_arrival_s = arrive_s
        return Slot(arrive_s, arrive_s - now_s)
