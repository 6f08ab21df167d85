"""Cut-offs on the board itself. No controller, twin, broker or sampler has a part in them.

`judge` is pure; `SafetyWatch` reads its own sensors in its own thread. The real die temperature stops new work at
`die_stop_c` and allows it again below `die_resume_c`; so does an under-voltage that the firmware reports, for at
least `HOLD_S`. When the firmware throttles, or the ground has been silent for `silence_s`, the node goes on at a
reduced duty. A thermometer that falls silent for `BLIND_S` counts as too hot: a guard that cannot see must not guess.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from hil_config.errors import HardwareError
from node_agent.config import SafetyLimits
from node_agent.sensors.reading import Instrument
from node_agent.sensors.vcgencmd import SOFT_LIMIT, THROTTLING, UNDER_VOLTAGE

PERIOD_S = 0.5
HOLD_S = 5.0
BLIND_S = 10.0


class Seen(NamedTuple):
    """What the watch knows at a monotonic instant; None: no such sensor, or no reading now."""

    at_s: float
    die_c: float | None
    throttled_flags: int | None
    silent_s: float


class Verdict(NamedTuple):
    """`ease`: reduced duty. `cut`: no new work."""

    state: Literal["ok", "ease", "cut"]
    reason: str


OK = Verdict("ok", "")


class Guard:
    """The rules, with hysteresis. Pure: time comes in with each observation."""

    def __init__(self, limits: SafetyLimits, has_thermometer: bool) -> None:
        self._limits = limits
        self._watch_die = has_thermometer and limits.die_stop_c > 0.0
        self._die_seen_s: float | None = None
        self._hot = False
        self._held_until_s = 0.0
        self._held_for = ""

    def judge(self, seen: Seen) -> Verdict:
        limits, flags = self._limits, seen.throttled_flags or 0
        if seen.die_c is not None or self._die_seen_s is None:
            self._die_seen_s = seen.at_s
        if self._watch_die and seen.die_c is not None:
            if seen.die_c >= limits.die_stop_c:
                self._hot = True
            elif seen.die_c < limits.die_resume_c:
                self._hot = False
        if self._watch_die and seen.die_c is None and seen.at_s - self._die_seen_s > BLIND_S:
            return Verdict("cut", f"no die temperature for {BLIND_S:g} s")
        if self._hot:
            return Verdict(
                "cut", f"the die reached {limits.die_stop_c:g} C; below {limits.die_resume_c:g} C it goes on"
            )
        if flags & UNDER_VOLTAGE:
            self._held_until_s, self._held_for = seen.at_s + HOLD_S, "under-voltage at the board's input"
        if seen.at_s < self._held_until_s:
            return Verdict("cut", self._held_for)
        if flags & (THROTTLING | SOFT_LIMIT):
            return Verdict("ease", "the firmware throttles")
        if 0.0 < limits.silence_s <= seen.silent_s:
            return Verdict("ease", f"no word from the ground for {limits.silence_s:g} s")
        return OK


class SafetyWatch:
    """Args:

    thermometer, flags: instruments of its own, not those of the sampler; None where the board has none.
    silent_s: seconds since the last word from the ground.
    act: called with every verdict that differs from the one before.
    """

    def __init__(
        self,
        limits: SafetyLimits,
        thermometer: Instrument | None,
        flags: Instrument | None,
        silent_s: Callable[[], float],
        act: Callable[[Verdict], None],
    ) -> None:
        self._guard = Guard(limits, thermometer is not None)
        self._thermometer, self._flags = thermometer, flags
        self._silent_s = silent_s
        self._act = act
        self.verdict = OK
        self.beat_s = time.monotonic()

    def work(self, wait: Callable[[float], bool]) -> None:
        """Look twice a second until `wait(seconds)` returns True."""
        while not wait(PERIOD_S):
            self.look()

    def look(self) -> None:
        """One look at the board."""
        self.beat_s = time.monotonic()
        flags = _value(self._flags)
        seen = Seen(self.beat_s, _value(self._thermometer), None if flags is None else int(flags), self._silent_s())
        verdict = self._guard.judge(seen)
        if verdict != self.verdict:
            self.verdict = verdict
            self._act(verdict)


def _value(instrument: Instrument | None) -> float | None:
    if instrument is None:
        return None
    try:
        return instrument.read()[0]
    except HardwareError:
        return None
