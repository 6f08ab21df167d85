"""What is to happen next, in the order of time; of equal times, what was asked for first. Deterministic."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], None]


class Agenda:
    """An event queue. `now_s` are the data plane's own seconds: see `Window` for what they are of the host's."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.done = 0
        self._waiting: list[tuple[float, int, Action]] = []
        self._asked = 0

    def at(self, when_s: float, action: Action) -> None:
        """Do `action` at `when_s`; what lies in the past is done next."""
        self._asked = asked = self._asked + 1
        heapq.heappush(self._waiting, (when_s if when_s > self.now_s else self.now_s, asked, action))

    def run_until(self, end_s: float) -> None:
        """Everything before `end_s`, and what follows from it."""
        waiting, take = self._waiting, heapq.heappop
        while waiting and waiting[0][0] < end_s:
            self.now_s, _, action = take(waiting)
            self.done += 1
            action()
        self.now_s = max(self.now_s, end_s)


class Window:
    """Which part of the time is calculated in detail: the first 1/`stride` of every tick, and it stands for the rest.

    The data plane lives through these windows without a break, so queues and caches go on from one to the next.
    With stride 1 its seconds are the host's. (Sampling in time, after Wunderlich et al., SMARTS, ISCA 2003.)
    """

    def __init__(self, tick_s: float, stride: int, rate: float) -> None:
        self.stride = stride
        self.tick_s = tick_s
        self.rate = rate
        self.length_s = tick_s / stride

    def host_s(self, at_s: float) -> float:
        """Host seconds since the start at the data plane's second `at_s`."""
        if self.stride == 1:
            return at_s
        ticks = int(at_s / self.length_s)
        return ticks * self.tick_s + (at_s - ticks * self.length_s)

    def scenario_s(self, at_s: float) -> float:
        return (at_s if self.stride == 1 else self.host_s(at_s)) * self.rate

    def of_scenario(self, scenario_s: float) -> float:
        """The data plane's second at an instant of the scenario; the next window's begin if it is in none."""
        host_s = scenario_s / self.rate
        ticks = int(host_s / self.tick_s + 1e-9)
        return ticks * self.length_s + min(max(0.0, host_s - ticks * self.tick_s), self.length_s)
