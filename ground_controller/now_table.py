"""What the schedule says now, of all links and all satellites at once.

A table keeps the record in force for each pair or satellite and takes up only the records that have begun since it was
asked last; going back in time begins anew. Values are those of `LinkSchedule.link` and `.illumination`, to the bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.link_schedule import LinkSchedule

Float = NDArray[np.float64]


class DelayTable:
    """One-way delays between N satellites; a pair that the schedule does not name is down."""

    def __init__(self, schedule: LinkSchedule, satellites: tuple[str, ...]) -> None:
        self._schedule = schedule
        self._count = len(satellites)
        at = {name: place for place, name in enumerate(satellites)}
        ends = np.array([at.get(end, -1) for pair in schedule.header.pairs for end in pair], np.intp).reshape(-1, 2)
        wanted = (ends >= 0).all(axis=1) & (ends[:, 0] != ends[:, 1])
        self._cell = ends[wanted, 0] * self._count + ends[wanted, 1]
        self._slot = np.where(wanted, np.cumsum(wanted) - 1, -1)
        self._all = bool(wanted.all())
        self._forget()

    def _forget(self) -> None:
        pairs = len(self._cell)
        self._time_s, self._delay_s, self._drift = np.zeros(pairs), np.zeros(pairs), np.zeros(pairs)
        self._up = np.zeros(pairs, np.bool_)
        self._taken = 0
        self._until_s = -np.inf

    def _take(self, t: float) -> None:
        """The records that begin up to t, in order: of several of a pair the last one stays."""
        if t < self._until_s:
            self._forget()
        self._until_s = t
        links = self._schedule.arrays.links
        last = int(np.searchsorted(links["time_s"], t, side="right"))
        if last == self._taken:
            return
        rows = links[self._taken : last]
        self._taken = last
        slot = self._slot[rows["pair"]]
        if not self._all:
            rows, slot = rows[slot >= 0], slot[slot >= 0]
        self._time_s[slot], self._up[slot] = rows["time_s"], rows["up"] > 0
        self._delay_s[slot], self._drift[slot] = rows["delay_s"], rows["delay_drift"]

    def at(self, t: float) -> Float:
        """[N, N] s at scenario second t, row to column; infinity where down, 0 on the diagonal. A new array."""
        t = min(max(t, 0.0), self._schedule.duration_s)
        self._take(t)
        moved = np.maximum(self._delay_s + (t - self._time_s) * self._drift, 0.0)
        delay = np.full(self._count * self._count, np.inf)
        delay[self._cell] = np.where(self._up, moved, np.inf)
        delay[:: self._count + 1] = 0.0
        return delay.reshape(self._count, self._count)


class LightTable:
    """Sunlight of N satellites."""

    def __init__(self, schedule: LinkSchedule, satellites: tuple[str, ...]) -> None:
        lights = schedule.arrays.lights
        number = {name: place for place, name in enumerate(schedule.header.satellites)}
        rows = np.argsort(lights["satellite"], kind="stable")
        of = np.array([number[name] for name in satellites])
        ends = np.searchsorted(lights["satellite"][rows], [of, of + 1])
        self._first, self._last = ends[0], ends[1] - 1
        self._duration_s = schedule.duration_s
        self._time_s = lights["time_s"][rows]
        self._sunlight = lights["sunlight"][rows].astype(np.float64)
        self._drift = lights["sunlight_drift"][rows].astype(np.float64)
        # When the record after each one begins; of a satellite's last one never.
        self._next_s = np.append(self._time_s[1:], np.inf)
        self._next_s[self._last] = np.inf
        self._now, self._until_s = self._first.copy(), -np.inf

    def at(self, t: float) -> Float:
        """Illuminated fraction of the Sun's disc [N] at scenario second t."""
        t = min(max(t, 0.0), self._duration_s)
        if t < self._until_s:
            self._now = self._first.copy()
        self._until_s = t
        while (due := self._next_s[self._now] <= t).any():
            self._now = self._now + due
        return self._value(self._now, np.full(1, t))

    def many(self, times_s: Float) -> Float:
        """The same at M instants, [M, N]."""
        t = np.clip(times_s, 0.0, self._duration_s)
        found = [
            first + np.maximum(np.searchsorted(self._time_s[first : last + 1], t, side="right") - 1, 0)
            for first, last in zip(self._first.tolist(), self._last.tolist(), strict=True)
        ]
        return self._value(np.array(found).T, t[:, None])

    def _value(self, row: NDArray[np.intp], t: Float) -> Float:
        moved = self._sunlight[row] + self._drift[row] * (t - self._time_s[row])
        return np.asarray(np.minimum(np.maximum(moved, 0.0), 1.0))
