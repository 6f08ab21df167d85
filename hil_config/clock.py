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
        """Scenario seconds per host second."""

    def now(self) -> ScenarioSeconds:
        """Scenario seconds since the start."""

    def sleep_until(self, deadline: ScenarioSeconds) -> float:
        """Wait for a scenario instant; returns the lateness in scenario seconds (0 or more)."""


class PacedClock:
    """Scenario time that follows the host's monotonic clock at `rate`.

    Args:
        anchor_host_s: the monotonic instant at which scenario time was `anchor_scenario_s`.
    """

    def __init__(self, rate: float, anchor_host_s: HostSeconds, anchor_scenario_s: float = 0.0) -> None:
        if not rate > 0.0:
            raise UsageError(f"clock rate {rate}: must be above 0", "use 1 for real time")
        self._rate = rate
        self._anchor_host_s = float(anchor_host_s)
        self._anchor_scenario_s = anchor_scenario_s
        self._interrupt = threading.Event()

    @property
    def rate(self) -> float:
        return self._rate

    def now(self) -> ScenarioSeconds:
        elapsed = time.monotonic() - self._anchor_host_s
        return ScenarioSeconds(self._anchor_scenario_s + elapsed * self._rate)

    def sleep_until(self, deadline: ScenarioSeconds) -> float:
        wait_s = (deadline - self.now()) / self._rate
        if wait_s > 0.0:
            self._interrupt.wait(wait_s)
        return max(0.0, self.now() - deadline)

    def interrupt(self) -> None:
        """Wake every sleeper now and let none sleep again: the run is ending."""
        self._interrupt.set()


class SteppedClock:
    """Scenario time that jumps to each deadline: simulation and replay."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    @property
    def rate(self) -> float:
        return float("inf")

    def now(self) -> ScenarioSeconds:
        return ScenarioSeconds(self._now)

    def sleep_until(self, deadline: ScenarioSeconds) -> float:
        self._now = max(self._now, deadline)
        return 0.0
