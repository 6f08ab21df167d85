"""Scenario clocks: one protocol, one paced by the host, one stepped by a simulator."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from hil_config.errors import UsageError
from hil_config.units import HostSeconds, ScenarioSeconds


class Clock(Protocol):
    """What the control loop and the links see of time."""

    @property
    def rate(self) -> float:
        """Scenario seconds per host second, when it is not paused."""

    @property
    def paused(self) -> bool:
        """Scenario time stands still."""

    def now(self) -> ScenarioSeconds:
        """Scenario seconds since the start."""

    def sleep_until(self, deadline: ScenarioSeconds) -> float:
        """Wait for a scenario instant; returns the lateness in scenario seconds (0 or more).

        A paused clock reaches none: use `idle`.
        """

    def idle(self, host_s: float) -> None:
        """Let host time pass while scenario time stands still."""


class PacedClock:
    """Scenario time that follows the host's monotonic clock at `rate`.

    Args:
        anchor_host_s: the monotonic instant at which scenario time was `anchor_scenario_s`.
        hold: before that instant scenario time stands there, instead of counting down to it.
    """

    def __init__(
        self, rate: float, anchor_host_s: HostSeconds, anchor_scenario_s: float = 0.0, hold: bool = False
    ) -> None:
        if not rate > 0.0:
            raise UsageError(f"clock rate {rate}: must be above 0", "use 1 for real time")
        self._rate = rate
        self._hold = hold
        self._anchor = (float(anchor_host_s), anchor_scenario_s, rate)
        self._interrupt = threading.Event()

    @property
    def rate(self) -> float:
        return self._rate

    @property
    def paused(self) -> bool:
        return self._anchor[2] == 0.0

    def now(self) -> ScenarioSeconds:
        host_s, scenario_s, rate = self._anchor
        elapsed = time.monotonic() - host_s
        return ScenarioSeconds(scenario_s + (max(0.0, elapsed) if self._hold else elapsed) * rate)

    @property
    def anchor(self) -> tuple[float, float, float]:
        """(host second, scenario second then, rate since: 0 is paused)."""
        return self._anchor

    def move(self, host_s: float, scenario_s: float, rate: float) -> None:
        """Pause (rate 0), go on or seek: from `host_s` scenario time is `scenario_s` and runs at `rate`."""
        if rate < 0.0:
            raise UsageError(f"clock rate {rate}: must be 0 (paused) or above", "use 1 for real time")
        self._rate = rate or self._rate
        self._hold = True
        self._anchor = (host_s, scenario_s, rate)

    def idle(self, host_s: float) -> None:
        self._interrupt.wait(host_s)

    def sleep_until(self, deadline: ScenarioSeconds) -> float:
        wait_s = (deadline - self.now()) / self._rate
        if wait_s > 0.0:
            self._interrupt.wait(wait_s)
        return max(0.0, self.now() - deadline)

    def interrupt(self) -> None:
        """Wake every sleeper now and let none sleep again: the run is ending."""
        self._interrupt.set()


class SteppedClock:
    """Scenario time that jumps to each deadline: simulation and replay. `rate` is that of the modelled host."""

    def __init__(self, start: float = 0.0, rate: float = float("inf")) -> None:
        self._now = start
        self._rate = rate

    @property
    def rate(self) -> float:
        return self._rate

    @property
    def paused(self) -> bool:
        return False

    def idle(self, host_s: float) -> None:
        return None

    def now(self) -> ScenarioSeconds:
        return ScenarioSeconds(self._now)

    def sleep_until(self, deadline: ScenarioSeconds) -> float:
        self._now = max(self._now, deadline)
        return 0.0
