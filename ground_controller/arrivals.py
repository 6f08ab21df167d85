"""Requests that arrive by themselves, whatever is still under way (open loop).

In a closed loop a slow bench is asked less; an open loop keeps asking, and shows what waiting does (B. Schroeder,
A. Wierman, M. Harchol-Balter, "Open Versus Closed: A Cautionary Tale", NSDI 2006). A thread of its own begins each
request when it is due, not at the next tick.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from ground_controller.arrival_times import MOST_UNDER_WAY, Due
from ground_controller.feed import Feed, generation
from ground_controller.workload import Workload
from hil_config.errors import EnvironmentFault


class Arrivals:
    """A source that pushes: `batch` requests at every arrival, each of at most `want` tokens and `context` in all.

    In a run that is gone on with, `begun` requests came before, in its first `elapsed_s` host seconds.
    """

    def __init__(
        self, due: Iterator[Due], workload: Workload, batch: int, want: int, context: int,
        begun: int = 0, elapsed_s: float = 0.0,
    ) -> None:  # fmt: skip
        self._due = due
        self._workload = workload
        self._batch = batch
        self._want = want
        self._context = context
        self._begun = begun
        self._elapsed_s = elapsed_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.exhausted = False

    def start(self, feed: Feed) -> None:
        self._thread = threading.Thread(target=self._work, args=(feed,), name="arrivals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def take(self, scenario_s: float, under_way: int) -> None:
        """Nothing is asked at ticks; EnvironmentFault if the thread has died."""
        if not self.exhausted and (self._thread is None or not self._thread.is_alive()):
            raise EnvironmentFault("the thread that begins requests has died", "its cause is above this line")

    def _work(self, feed: Feed) -> None:
        begin_s = time.monotonic() - self._elapsed_s
        for one in self._due:
            if not self._begun and self._stopping.wait(max(0.0, begin_s + one.at_s - time.monotonic())):
                return
            for _ in range(self._batch):
                ready = self._workload.next(one.prompt_tokens)
                if ready is None:
                    self.exhausted = True
                    return
                if self._begun:
                    self._begun -= 1
                    continue
                want = min(one.output_tokens or self._want, self._context - len(ready.tokens))
                feed.begin(generation(ready, max(1, want)), MOST_UNDER_WAY)
        self.exhausted = True
