"""The one bounded way in: what arrives from the fleet and the client waits here for the next tick."""

from __future__ import annotations

import threading
from typing import NamedTuple

CAPACITY = 200_000


class Arrival(NamedTuple):
    """`body` is the JSON as it came; evidence carries its boot and seq, everything else seq 0. `epoch`: of the
    controller in whose run it was recorded, 0 where it says nothing of that."""

    host_ns: int
    kind: str
    node: str
    boot_id: str
    seq: int
    body: bytes
    epoch: int = 0


class Inbox:
    """Overflow is never silent: `overflowed` makes the run invalid."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._items: list[Arrival] = []
        self.overflowed = 0

    def put(self, arrival: Arrival) -> None:
        with self._lock:
            if len(self._items) >= self._capacity:
                self.overflowed += 1
            else:
                self._items.append(arrival)

    def drain(self) -> list[Arrival]:
        """Everything that has come since the last call, in order of arrival."""
        with self._lock:
            items, self._items = self._items, []
        return items
