"""The run so far in few points, for curves; and which entry recorded each tick, for going back in time."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
MOST_POINTS = 1_200


class Tick(NamedTuple):
    """`number`: of the decision's entry. `host_s`: host seconds since the first tick."""

    number: int
    host_ns: int
    host_s: float
    scenario_s: float


class Point(NamedTuple):
    """One tick of the curves: per node [N], NaN where there is no value."""

    host_s: float
    scenario_s: float
    tokens_per_s: float
    power_w: F32
    temperature_c: F32
    charge: F32


class History:
    """`ticks` has every tick; `points` are thinned by halves when they become too many, so their spacing doubles."""

    def __init__(self) -> None:
        self._numbers, self._host_ns, self._scenario_s = array("q"), array("q"), array("d")
        self.points: list[Point] = []
        self._stride = 1

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, number: int, host_ns: int, scenario_s: float) -> Tick:
        """A tick was recorded."""
        self._numbers.append(number)
        self._host_ns.append(host_ns)
        self._scenario_s.append(scenario_s)
        return self.tick(len(self._numbers) - 1)

    def add_point(self, point: Point) -> None:
        """The curves at the tick added last."""
        if (len(self._numbers) - 1) % self._stride:
            return
        self.points.append(point)
        if len(self.points) > MOST_POINTS:
            self.points = self.points[::2]
            self._stride *= 2

    def tick(self, index: int) -> Tick:
        """By its place, negative ones from the end."""
        host_ns = self._host_ns[index]
        return Tick(self._numbers[index], host_ns, (host_ns - self._host_ns[0]) / 1e9, self._scenario_s[index])

    def at(self, host_s: float) -> Tick:
        """The last tick at or before a host second; the first one for what is earlier."""
        wanted = self._host_ns[0] + round(host_s * 1e9)
        return self.tick(max(0, bisect_right(self._host_ns, wanted) - 1))
