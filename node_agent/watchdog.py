"""The agent's own watchdog: a thread that hears the heartbeat of the others, and needs nobody else.

While all beat, systemd is told so. When one is silent for longer than it may be, the cause goes to stderr, the board's
settings are put back, and the process ends, so that whoever supervises it starts it anew. Should this thread itself
hang, systemd's own watchdog ends the process.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from hil_config.errors import EXIT_UNEXPECTED
from node_agent.notify import notify, watchdog_s

PERIOD_S = 1.0
ASLEEP_S = 2.0


class Heart(NamedTuple):
    """A thread: when it beat last (monotonic seconds), and how long it may be silent."""

    name: str
    beat_s: Callable[[], float]
    most_s: float


def silent(hearts: list[Heart], now_s: float) -> str:
    """The first thread that is silent for too long and for how long, or ""."""
    for heart in hearts:
        quiet_s = now_s - heart.beat_s()
        if quiet_s > heart.most_s:
            return f"{heart.name} has not moved for {quiet_s:.1f} s; at most {heart.most_s:g} s are allowed"
    return ""


class Watchdog:
    """Args: `last_will` is called before the process ends; it must not block."""

    def __init__(self, hearts: list[Heart], last_will: Callable[[], object]) -> None:
        self._hearts = hearts
        self._last_will = last_will
        period_s = watchdog_s()
        self._period_s = min(PERIOD_S, period_s / 3) if period_s else PERIOD_S

    def work(self, wait: Callable[[float], bool]) -> None:
        """Watch until `wait(seconds)` returns True."""
        looked_s = time.monotonic()
        while not wait(self._period_s):
            before_s, looked_s = looked_s, time.monotonic()
            if looked_s - before_s > self._period_s + ASLEEP_S:
                continue  # the whole process stood still (SIGSTOP, a debugger): the others get a moment to beat
            cause = silent(self._hearts, looked_s)
            if cause:
                print(f"hil-agent: watchdog: {cause}", file=sys.stderr, flush=True)
                self._last_will()
                os._exit(EXIT_UNEXPECTED)
            notify("WATCHDOG=1")
