"""A node's monotonic time as the ground's, and as scenario seconds: through drift, pauses, seeks and interruptions."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from operator import add
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.interruption import KIND, RunResumed, resumptions
from ground_controller.journal import Entry, Journal
from ground_controller.steering import Steered
from hil_config.wire.messages import Status, decode

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


@dataclass
class _Clock:
    """What holds for a node from an instant of the ground's clock on.

    `known`: instants of the ground's clock and what was measured then. `boots`: of the node's processes, those that go
    by it. `begins`: measured when the run began or went on, and not because the board was started again in between.
    """

    since_ns: int
    known: list[tuple[int, int]]
    boots: set[str]
    begins: bool = True

    def near(self, offset_ns: int, host_ns: int) -> bool:
        """Whether the same clock may be so far from the ground's by then."""
        before_ns, before = self.known[-1]
        return abs(offset_ns - before) <= JITTER_NS + LARGEST_DRIFT * (host_ns - before_ns)

    @property
    def stretch(self) -> _Stretch:
        host_ns, offset_ns = zip(*self.known, strict=True)
        return _Stretch(self.since_ns, Offsets(tuple(map(add, host_ns, offset_ns)), offset_ns))


class _Stretch(NamedTuple):
    """A node's clock from an instant of the ground's on."""

    since_ns: int
    offsets: Offsets


class ScenarioTime:
    """Node monotonic time to scenario seconds: by recorded offsets, the clock's anchor, and what steered it since.

    While a run was interrupted scenario time stood. Offsets are those measured at the start (or when it went on), and
    from there on a straight line to each that a check found to have drifted. A board that was started again has another
    clock: with `boot_id`, of what the instants are from, they are read by the clock of that boot.
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
        self._clocks = _clocks(journal, anchor_ns, first, resumed)
        self._known: dict[tuple[str, str], tuple[_Stretch, ...]] = {}

    def _stretches(self, node: str, boot_id: str) -> tuple[_Stretch, ...]:
        """The latest first."""
        found = self._known.get((node, boot_id))
        if found is None:
            clocks = self._clocks[node][::-1]
            own = [one for one in clocks if boot_id in one.boots] or [one for one in clocks if one.begins]
            found = self._known[node, boot_id] = tuple(one.stretch for one in own)
        return found

    @property
    def moves(self) -> tuple[tuple[int, float, float], ...]:
        """(ns of the ground's clock, scenario second then, orbit seconds in a host second since), in order."""
        return tuple(self._moves)

    def host_ns(self, node: str, mono_ns: int, boot_id: str = "") -> int:
        """The instant on the ground's monotonic clock."""
        *later, first = self._stretches(node, boot_id)
        for since_ns, offsets in later:
            found = mono_ns - offsets.at(mono_ns)
            if found >= since_ns:
                return found
        return mono_ns - first.offsets.at(mono_ns)

    def all_host_ns(self, node: str, mono_ns: Int, boot_id: str = "") -> Int:
        """The same of many instants at once."""
        *later, first = self._stretches(node, boot_id)
        host_ns = mono_ns - first.offsets.all_at(mono_ns)
        for since_ns, offsets in reversed(later):  # the latest that applies counts
            found = mono_ns - offsets.all_at(mono_ns)
            host_ns = np.where(found >= since_ns, found, host_ns)
        return host_ns

    def of(self, node: str, mono_ns: int, boot_id: str = "") -> float:
        """Scenario seconds."""
        host_ns = self.host_ns(node, mono_ns, boot_id)
        begin_ns, scenario_s, rate = self._moves[max(0, bisect_right(self._begins, host_ns) - 1)]
        return scenario_s + (host_ns - begin_ns) / 1e9 * rate

    def all_of(self, node: str, mono_ns: Int, boot_id: str = "") -> NDArray[np.float64]:
        """The same of many instants at once."""
        return self.all_at(self.all_host_ns(node, mono_ns, boot_id))

    def all_at(self, host_ns: Int) -> NDArray[np.float64]:
        """Scenario seconds at instants of the ground's clock."""
        begins, scenario_s, rates = (np.array(column) for column in zip(*self._moves, strict=True))
        at = np.maximum(0, np.searchsorted(begins, host_ns, "right") - 1)
        found: NDArray[np.float64] = scenario_s[at] + (host_ns - begins[at]) / 1e9 * rates[at]
        return found


def _clocks(
    journal: Journal, anchor_ns: int, first: dict[str, tuple[int, int]], resumed: list[RunResumed]
) -> dict[str, list[_Clock]]:
    """Every node's clocks in order, followed through drift. A boot goes by the clock that was measured while it was
    there; until it was measured, by that of the boot before, as a process goes by its board's."""
    clocks = {node: [_Clock(anchor_ns, [(anchor_ns, one[0])], set())] for node, one in first.items()}
    fresh: dict[str, tuple[str, int]] = {}
    """By node: the boot that came since its clock was measured, and when."""
    waiting = iter(resumed)
    for entry in journal.entries("status", "clock_check", KIND):
        if entry.kind == KIND:
            _go_on(clocks, fresh, next(waiting))
        elif entry.node in clocks and entry.kind == "status":
            mine, status = clocks[entry.node], decode(entry.body, Status)
            if status.state != "offline" and not any(status.boot_id in one.boots for one in mine):
                mine[-1].boots.add(status.boot_id)
                if entry.host_ns > mine[-1].since_ns:
                    fresh[entry.node] = (status.boot_id, entry.host_ns)
        elif entry.node in clocks and entry.host_ns > clocks[entry.node][-1].since_ns:
            _check(clocks[entry.node], fresh.pop(entry.node, None), entry)
    return clocks


def _go_on(clocks: dict[str, list[_Clock]], fresh: dict[str, tuple[str, int]], one: RunResumed) -> None:
    """All were measured anew."""
    for node, (offset_ns, _) in one.offsets.items():
        boot_id, mine = one.boots.get(node, ""), clocks.setdefault(node, [])
        came, _ = fresh.pop(node, ("", 0))
        if came and came == boot_id and not mine[-1].near(offset_ns, one.host_ns):
            mine[-1].boots.discard(came)
        mine.append(_Clock(one.host_ns, [(one.host_ns, offset_ns)], {boot_id} - {""}))


def _check(mine: list[_Clock], came: tuple[str, int] | None, entry: Entry) -> None:
    """A clock was measured: the same, drifted, or that of a board which was started again since."""
    found, last = msgspec.json.decode(entry.body, type=_Checked), mine[-1]
    if last.near(found.offset_ns, entry.host_ns):
        if found.corrected:
            last.known.append((entry.host_ns, found.offset_ns))
    elif came is not None:
        boot_id, since_ns = came
        last.boots.discard(boot_id)
        mine.append(_Clock(since_ns, [(entry.host_ns, found.offset_ns)], {boot_id}, begins=False))
