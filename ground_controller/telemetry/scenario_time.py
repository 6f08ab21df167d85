"""A node's monotonic time as the ground's, and as scenario seconds: through drift, pauses, seeks and interruptions."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.interruption import resumptions
from ground_controller.journal import Journal
from ground_controller.steering import Steered

Int = NDArray[np.int64]
LARGEST_DRIFT = 1e-3
"""Of a crystal, ten times over; a clock that went further astray is that of another boot."""
JITTER_NS = 5_000_000


class _Checked(msgspec.Struct, frozen=True):
    """What is wanted of a `clock_check` entry."""

    offset_ns: int
    corrected: bool


class Offsets(NamedTuple):
    """A node's clock minus the ground's at instants [K] of the node's; straight lines between, level outside."""

    mono_ns: tuple[int, ...]
    offset_ns: tuple[int, ...]

    def at(self, mono_ns: int) -> int:
        """At one instant."""
        last = bisect_right(self.mono_ns, mono_ns)
        if last in {0, len(self.mono_ns)}:
            return self.offset_ns[max(0, last - 1)]
        begin, end = self.mono_ns[last - 1 : last + 1]
        before, after = self.offset_ns[last - 1 : last + 1]
        return before + round((after - before) * ((mono_ns - begin) / (end - begin)))

    def all_at(self, mono_ns: Int) -> Int:
        """At many."""
        first = self.offset_ns[0]
        moved = np.interp(mono_ns, self.mono_ns, [one - first for one in self.offset_ns])
        return first + np.rint(moved).astype(np.int64)


class _Stretch(NamedTuple):
    """What holds from an instant of the ground's clock on."""

    since_ns: int
    offsets: dict[str, Offsets]


class ScenarioTime:
    """Node monotonic time to scenario seconds: by recorded offsets, the clock's anchor, and what steered it since.

    While a run was interrupted scenario time stood. Offsets are those measured at the start (or when it went on), and
    from there on a straight line to each that a check found to have drifted.
    """

    def __init__(self, journal: Journal) -> None:
        resumed = resumptions(journal)
        first = msgspec.json.decode(journal.meta("clock_offsets_ns"), type=dict[str, tuple[int, int]])
        campaign = msgspec.json.decode(journal.meta("campaign"))
        anchor_ns = int(journal.meta("anchor_host_ns"))
        steered = (msgspec.json.decode(entry.body, type=Steered) for entry in journal.entries("steer"))
        moves = [(one.host_ns, one.to_s, one.rate) for one in steered if one.action != "fault"]
        moves += [(one.stopped_ns, one.at_s, 0.0) for one in resumed]
        moves += [(one.host_ns, one.at_s, one.rate) for one in resumed]
        self._moves = [(anchor_ns, 0.0, float(campaign["orbit"]["rate"])), *sorted(moves)]
        self._begins = [begin_ns for begin_ns, _, _ in self._moves]
        begun = [(anchor_ns, first), *((one.host_ns, one.offsets) for one in resumed)]
        ends = [*(since_ns for since_ns, _ in begun[1:]), 1 << 62]
        stretches = [
            _Stretch(since_ns, _followed(journal, since_ns, measured, until_ns))
            for (since_ns, measured), until_ns in zip(begun, ends, strict=True)
        ]
        self._stretches = stretches[::-1]

    @property
    def moves(self) -> tuple[tuple[int, float, float], ...]:
        """(ns of the ground's clock, scenario second then, orbit seconds in a host second since), in order."""
        return tuple(self._moves)

    def host_ns(self, node: str, mono_ns: int) -> int:
        """The instant on the ground's monotonic clock."""
        for since_ns, offsets in self._stretches[:-1]:
            found = mono_ns - offsets[node].at(mono_ns)
            if found >= since_ns:
                return found
        return mono_ns - self._stretches[-1].offsets[node].at(mono_ns)

    def all_host_ns(self, node: str, mono_ns: Int) -> Int:
        """The same of many instants at once."""
        host_ns = mono_ns - self._stretches[-1].offsets[node].all_at(mono_ns)
        for since_ns, offsets in reversed(self._stretches[:-1]):  # the latest that applies counts
            later = mono_ns - offsets[node].all_at(mono_ns)
            host_ns = np.where(later >= since_ns, later, host_ns)
        return host_ns

    def of(self, node: str, mono_ns: int) -> float:
        """Scenario seconds."""
        host_ns = self.host_ns(node, mono_ns)
        begin_ns, scenario_s, rate = self._moves[max(0, bisect_right(self._begins, host_ns) - 1)]
        return scenario_s + (host_ns - begin_ns) / 1e9 * rate

    def all_of(self, node: str, mono_ns: Int) -> NDArray[np.float64]:
        """The same of many instants at once."""
        return self.all_at(self.all_host_ns(node, mono_ns))

    def all_at(self, host_ns: Int) -> NDArray[np.float64]:
        """Scenario seconds at instants of the ground's clock."""
        begins, scenario_s, rates = (np.array(column) for column in zip(*self._moves, strict=True))
        at = np.maximum(0, np.searchsorted(begins, host_ns, "right") - 1)
        found: NDArray[np.float64] = scenario_s[at] + (host_ns - begins[at]) / 1e9 * rates[at]
        return found


def _followed(
    journal: Journal, since_ns: int, measured: dict[str, tuple[int, int]], until_ns: int
) -> dict[str, Offsets]:
    """Offsets by node from `since_ns` on, until they were measured anew."""
    knots: dict[str, list[tuple[int, int]]] = {node: [(since_ns, one[0])] for node, one in measured.items()}
    for entry in journal.entries("clock_check"):
        found = msgspec.json.decode(entry.body, type=_Checked)
        if not (found.corrected and entry.node in knots and since_ns < entry.host_ns < until_ns):
            continue
        before_ns, offset_ns = knots[entry.node][-1]
        if abs(found.offset_ns - offset_ns) <= JITTER_NS + LARGEST_DRIFT * (entry.host_ns - before_ns):
            knots[entry.node].append((entry.host_ns, found.offset_ns))
    return {
        node: Offsets(tuple(host + offset for host, offset in known), tuple(offset for _, offset in known))
        for node, known in knots.items()
    }
