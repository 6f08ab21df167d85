"""The duty limit: the share of time that a node may compute, for boards without power modes. Kept in the agent.

Work is done in turns. After a turn of b seconds nobody gets another one for b (1 / share - 1) seconds, so at most
`share` of the time is spent computing, whatever the number of threads. A share of 1 costs nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hil_config.errors import UsageError

LEAST = 0.01


class DutyLimit:
    """Shared by all that compute on a node."""

    def __init__(self) -> None:
        self.share = 1.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._free_s = 0.0

    def set(self, share: float) -> None:
        if not LEAST <= share <= 1.0:
            raise UsageError(f"duty {share}, wanted {LEAST} to 1")
        before, self.share = self.share, share
        if share != before and not self._stopped.is_set():  # how long to wait was told by the share before
            self._free_s = 0.0  # first: who finds the new event below must not wait for it
            waiting, self._stopped = self._stopped, threading.Event()
            waiting.set()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Compute inside; waits before, never after, so that a result leaves at once."""
        if self.share >= 1.0:
            yield
            return
        with self._lock:
            self._stopped.wait(max(0.0, self._free_s - time.monotonic()))
            begin_s = time.monotonic()
            try:
                yield
            finally:
                end_s = time.monotonic()
                self._free_s = end_s + (end_s - begin_s) * (1.0 / self.share - 1.0)

    def release(self) -> None:
        """Nobody waits any more: the node is stopping."""
        self._stopped.set()
