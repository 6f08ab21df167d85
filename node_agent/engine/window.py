"""How many batches a gateway has under way at once.

More than keep the hosts busy only queue there, one step each; steps that wait here meet others at their layer, and go
on with them as one. What keeps hosts busy is what the pipe holds (Kleinrock, 1979: delay times throughput): one batch
that is computed, one on either side of it, and as many as a round trip over the links has time for.
"""

from __future__ import annotations

from collections.abc import Callable

LEAST = 2
_SMOOTH = 0.1
_FLOOR_S = 1e-4
STALE = 4.0
STALE_S = 0.05
"""A batch that takes so many times as long as others, and at least so much longer than its way, waits for a host that
does not answer: others need not wait for it."""


class Window:
    """Args: `trip_s` looks up the scheduled round trip to the farthest host, seconds."""

    def __init__(self, trip_s: Callable[[], float]) -> None:
        self._trip_s = trip_s
        self._under_way: dict[int, float] = {}
        self._compute_s = 0.0

    def begun(self, call: int, now_s: float) -> None:
        self._under_way[call] = now_s

    def ended(self, call: int, compute_s: float) -> None:
        """It took trunk and slowest host so long to compute."""
        del self._under_way[call]
        before = self._compute_s
        self._compute_s = compute_s if before == 0.0 else before + _SMOOTH * (compute_s - before)

    def open(self, now_s: float) -> bool:
        """May one more be begun?"""
        if len(self._under_way) < LEAST:
            return True
        trip_s = self._trip_s()
        patience_s = trip_s + max(STALE_S, STALE * self._compute_s)
        count = sum(now_s - begun_s < patience_s for begun_s in self._under_way.values())
        return count < LEAST + trip_s / max(self._compute_s, _FLOOR_S)
