"""The user-space link shaper: what becomes of a frame that is sent now, and when. Pure; the caller brings the time.

One direction of one link is a line and a distance. A frame waits until the line is free, occupies it for its
serialisation time (size / rate), and then travels for the delay. Rate, delay and loss are those at the moment it begins
on the line: what is under way already keeps what it began with, and what still waits is not dropped when they change,
except when the link goes down (or its rate to 0). Frames of one link never overtake each other, as on a real
point-to-point link. Chance (loss, jitter) comes from generators of the link's own, seeded by the run: the same frames
in the same order meet the same fate.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from hil_config.wire.link_state import LinkState

MAX_QUEUE_S = 30.0
"""A frame that would wait longer for the line is refused: bounded queues end to end."""

_INFINITE = float("inf")

T = TypeVar("T")


@dataclass(slots=True)
class Waiting(Generic[T]):
    """A frame that is not on the line yet."""

    item: T
    size: int
    sent_s: float


@dataclass(slots=True)
class Flight(Generic[T]):
    """A frame on its way: handed over by the sender at `sent_s`, to be handed to the peer at `due_s`."""

    item: T
    size: int
    sent_s: float
    due_s: float


class Shaper(Generic[T]):
    """State of one direction of one link. Times are host seconds of one monotonic clock.

    `lost` and `cut` count frames that chance and an outage took.
    """

    def __init__(self, seed: str = "", jitter_s: float = 0.0) -> None:
        self._loss = random.Random(f"loss {seed}")
        self._jitter = random.Random(f"jitter {seed}")
        self._jitter_s = jitter_s
        self._waiting: deque[Waiting[T]] = deque()
        self._waiting_bits = 0.0
        self._flying: deque[Flight[T]] = deque()
        self._line_free_s = 0.0
        self._last_due_s = 0.0
        self.lost = 0
        self.cut = 0

    @property
    def waiting(self) -> bool:
        """Does a frame wait for the line?"""
        return bool(self._waiting)

    def admit(self, item: T, size: int, link: LinkState, now_s: float) -> bool:
        """Take a frame of `size` bytes; False if the link is down or its queue full."""
        if not link.up or link.rate_bit_s <= 0.0:
            return False
        if not self._waiting and self._line_free_s <= now_s:
            self._begin(item, size, now_s, now_s, link)
            return True
        ahead_s = max(0.0, self._line_free_s - now_s) + self._waiting_bits / link.rate_bit_s
        if ahead_s > MAX_QUEUE_S:
            return False
        self._waiting.append(Waiting(item, size, now_s))
        self._waiting_bits += 8.0 * size
        self.advance(link, now_s)
        return True

    def passes(self, link: LinkState, now_s: float) -> bool:
        """Would a frame admitted now be due now, with nothing before it and nothing left to chance? Then it need not
        be admitted: the state afterwards would say the same of every later frame."""
        return (
            link.up and link.delay_s == 0.0 and link.rate_bit_s == _INFINITE and link.loss == self._jitter_s == 0.0
            and not self._waiting and not self._flying
            and self._line_free_s <= now_s and self._last_due_s <= now_s
        )  # fmt: skip

    def advance(self, link: LinkState, now_s: float) -> None:
        """Put on the line what it has become free for by `now_s`; drop what waits if the link is down."""
        if self._waiting and not (link.up and link.rate_bit_s > 0.0):
            self.cut += len(self._waiting)
            self._waiting.clear()
            self._waiting_bits = 0.0
        while self._waiting:
            frame = self._waiting[0]
            start_s = max(frame.sent_s, self._line_free_s)
            if start_s > now_s:
                return
            self._waiting.popleft()
            self._waiting_bits -= 8.0 * frame.size
            self._begin(frame.item, frame.size, frame.sent_s, start_s, link)

    def _begin(self, item: T, size: int, sent_s: float, start_s: float, link: LinkState) -> None:
        """A frame is on the line from `start_s` on."""
        self._line_free_s = free_s = start_s + 8.0 * size / link.rate_bit_s
        due_s = free_s + link.delay_s
        if self._jitter_s > 0.0:
            due_s += self._jitter.uniform(-1.0, 1.0) * min(self._jitter_s, link.delay_s)
        due_s = self._last_due_s = max(due_s, self._last_due_s)
        if link.loss > 0.0 and self._loss.random() < link.loss:
            self.lost += 1
        else:
            self._flying.append(Flight(item, size, sent_s, due_s))

    def take_due(self, now_s: float) -> Flight[T] | None:
        """The next frame that is due by `now_s`."""
        if self._flying and self._flying[0].due_s <= now_s:
            return self._flying.popleft()
        return None

    def next_s(self) -> float | None:
        """When there is something to do next: a frame due, or the line free for one that waits."""
        due_s = self._flying[0].due_s if self._flying else None
        if not self._waiting:
            return due_s
        begins_s = max(self._line_free_s, self._waiting[0].sent_s)
        return begins_s if due_s is None else min(due_s, begins_s)

    def clear(self) -> None:
        """Forget everything: the peer is gone."""
        self._waiting.clear()
        self._waiting_bits = 0.0
        self._flying.clear()
