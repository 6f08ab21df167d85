"""How many batches a gateway has under way at once.

More than keep the hosts busy only queue there, one step each; steps that wait here meet others at their layer, and go
on with them as one. What keeps hosts busy is what the pipe holds (Kleinrock, 1979: throughput times delay): one batch
that is computed, one on either side of it, and as many as a round trip over the links has time for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

LEAST = 2
STALE = 4.0
STALE_S = 0.05
"""A batch that takes so many times as long as others, and at least so much longer than its way, waits for a host that
does not answer: others need not wait for it."""
FRESH_S = 0.1
"""How long a round trip is gone by that was looked up."""
_SMOOTH = 0.1
_FLOOR_S = 1e-4


class Window:
    """Times are seconds of any clock that does not go back.

    Args:
        trip_s: looks up the longest scheduled round trip to a host that a batch under way waits for, seconds.
    """

    def __init__(self, trip_s: Callable[[], float]) -> None:
        self._look = trip_s
        self._trip_s, self._looked_s = 0.0, -math.inf
        self._under_way: dict[Hashable, float] = {}
        self._compute_s = 0.0

    def begun(self, batch: Hashable, now_s: float) -> None:
        """It is with its hosts."""
        self._under_way[batch] = now_s

    def ended(self, batch: Hashable, compute_s: float) -> None:
        """It took trunk and slowest host so long to compute."""
        del self._under_way[batch]
        before = self._compute_s
        self._compute_s = compute_s if before == 0.0 else before + _SMOOTH * (compute_s - before)

    @property
    def wide_open(self) -> bool:
        """Open, whatever the time."""
        return len(self._under_way) < LEAST

    def open(self, now_s: float) -> bool:
        """May one more be begun?"""
        if self.wide_open:
            return True
        if now_s >= self._looked_s + FRESH_S:
            self._trip_s, self._looked_s = self._look(), now_s
        most = LEAST + self._trip_s / max(self._compute_s, _FLOOR_S)
        return sum(now_s < until_s for until_s in self._patience()) < most

    def opens_s(self, now_s: float) -> float:
        """When a closed one opens, should nothing end until then."""
        return min((until_s for until_s in self._patience() if until_s > now_s), default=now_s)

    def _patience(self) -> list[float]:
        patience_s = self._trip_s + max(STALE_S, STALE * self._compute_s)
        return [begun_s + patience_s for begun_s in self._under_way.values()]
