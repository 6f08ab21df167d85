"""How much of the orbit a run lived through, and in how much host time, through pauses, seeks and interruptions.

Ticks go on while a run is paused, after its orbit has ended and while its boards stay idle: as many decisions, in which
no orbit second passes. A figure over the orbit weighs each decision with the seconds that the twin lived through, which
a seek skips.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.decision import Decision
from ground_controller.interruption import resumptions
from ground_controller.journal import WORK_ENDED, Journal
from ground_controller.steering import Steered
from ground_controller.telemetry.scenario_time import ScenarioTime

ROUNDING_S = 1e-6
"""Ticks are added up."""


class Span(NamedTuple):
    """Host seconds with a controller, in which scenario time went from `from_s` on at `rate` (0: it stood)."""

    host_s: float
    from_s: float
    rate: float


class Passed(NamedTuple):
    """`decisions` within the orbit, `lived_s` [T] orbit seconds that the twin went through up to each; `spans` in
    order."""

    decisions: list[Decision]
    lived_s: NDArray[np.float64]
    spans: tuple[Span, ...]

    def orbit(self) -> tuple[list[Decision], NDArray[np.float64]]:
        """The first decision and those before which orbit seconds passed, with their seconds."""
        at = [i for i, seconds in enumerate(self.lived_s.tolist()) if seconds > 0.0 or i == 0]
        return [self.decisions[i] for i in at], self.lived_s[at]

    @property
    def host_s(self) -> float:
        """Host seconds of the run, those of pauses among them and those of interruptions not."""
        return sum(span.host_s for span in self.spans)

    @property
    def scenario_s(self) -> float:
        """Orbit seconds lived through."""
        return float(self.lived_s.sum())


def passed(journal: Journal) -> Passed:
    """Up to the end of the orbit, or of the work where that ended before; the first decision always counts. Of the tick
    in which the orbit ends, what was left of it counts."""
    duration_s = msgspec.json.decode(journal.meta("campaign"))["orbit"]["duration_s"]
    until_ns = int(journal.meta(WORK_ENDED, str(1 << 62)))
    decisions: list[Decision] = []
    end_ns = int(journal.meta("anchor_host_ns"))
    for entry in journal.entries("decision"):
        one = msgspec.json.decode(entry.body, type=Decision)
        ends_s = duration_s if not decisions or decisions[-1].scenario_s >= duration_s - ROUNDING_S else math.inf
        if not decisions or (one.scenario_s <= ends_s + ROUNDING_S and entry.host_ns <= until_ns):
            decisions.append(one)
            end_ns = max(end_ns, entry.host_ns)
    if not decisions:
        return Passed([], np.zeros(0), ())
    skipped: defaultdict[int, float] = defaultdict(float)
    for entry in journal.entries("steer"):
        steered = msgspec.json.decode(entry.body, type=Steered)
        if steered.action == "seek":
            skipped[entry.tick] += steered.to_s - steered.at_s
    last_s = min(decisions[-1].scenario_s, duration_s)
    return Passed(decisions, lived_s(decisions, skipped, duration_s), _spans(journal, last_s, end_ns))


def lived_s(decisions: list[Decision], skipped: dict[int, float], duration_s: float = math.inf) -> NDArray[np.float64]:
    """[T] orbit seconds between each decision and the one before, less what was `skipped` at its tick, as the twin
    counts them: never below 0, and none after `duration_s`."""
    at_s = np.array([min(one.scenario_s, duration_s) for one in decisions])
    jumps = np.array([skipped.get(one.tick, 0.0) for one in decisions])
    found: NDArray[np.float64] = np.maximum(np.diff(at_s, prepend=0.0) - jumps, 0.0)
    return found


def _spans(journal: Journal, last_s: float, end_ns: int) -> tuple[Span, ...]:
    """Between what moved the clock; the last one ends where scenario time says, so that no tick's lateness counts."""
    moves = ScenarioTime(journal).moves
    without = {one.stopped_ns for one in resumptions(journal)}
    found = []
    for number, (begin_ns, from_s, rate) in enumerate(moves):
        next_ns = moves[number + 1][0] if number + 1 < len(moves) else end_ns
        host_s = (min(next_ns, end_ns) - begin_ns) / 1e9
        if rate > 0.0 and next_ns >= end_ns:
            host_s = (last_s - from_s) / rate
        if host_s > 0.0 and begin_ns not in without:
            found.append(Span(host_s, from_s, rate))
        if next_ns >= end_ns:
            break
    return tuple(found)
