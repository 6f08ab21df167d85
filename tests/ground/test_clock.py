"""One contract over both clocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from hil_config.clock import Clock, PacedClock, SteppedClock
from hil_config.errors import UsageError
from hil_config.units import HostSeconds, ScenarioSeconds

CLOCKS: dict[str, Callable[[], Clock]] = {
    "paced": lambda: PacedClock(100.0, HostSeconds(time.monotonic())),
    "stepped": SteppedClock,
}


@pytest.mark.parametrize("make", CLOCKS.values(), ids=CLOCKS)
def test_a_deadline_is_never_reached_early_and_lateness_is_not_negative(make: Callable[[], Clock]) -> None:
    clock = make()
    for deadline in (1.0, 2.0, 5.0):
        lateness = clock.sleep_until(ScenarioSeconds(deadline))
        assert lateness >= 0.0
        assert clock.now() >= deadline
    assert clock.sleep_until(ScenarioSeconds(0.0)) >= 0.0
    assert clock.now() >= 5.0


def test_rate_must_be_positive() -> None:
    with pytest.raises(UsageError, match="rate 0"):
        PacedClock(0.0, HostSeconds(0.0))


def test_anchor_places_scenario_time() -> None:
    clock = PacedClock(10.0, HostSeconds(time.monotonic() - 3.0), anchor_scenario_s=5.0)
    assert clock.now() >= 35.0


def test_interrupt_wakes_a_sleeper() -> None:
    clock = PacedClock(1.0, HostSeconds(time.monotonic()))
    thread = threading.Thread(target=lambda: clock.sleep_until(ScenarioSeconds(3600.0)))
    thread.start()
    clock.interrupt()
    thread.join(5.0)
    assert not thread.is_alive()


def test_a_paused_clock_stands_goes_on_and_jumps() -> None:
    clock = PacedClock(100.0, HostSeconds(time.monotonic()))
    clock.move(time.monotonic(), 7.0, 0.0)
    assert clock.paused and clock.rate == 100.0
    assert clock.now() == 7.0
    clock.idle(0.01)
    assert clock.now() == 7.0
    clock.move(time.monotonic(), 50.0, 100.0)
    assert not clock.paused
    assert clock.sleep_until(ScenarioSeconds(51.0)) >= 0.0
    assert clock.now() >= 51.0
    with pytest.raises(UsageError):
        clock.move(time.monotonic(), 0.0, -1.0)


def test_a_clock_that_holds_stands_until_its_anchor() -> None:
    ahead = HostSeconds(time.monotonic() + 3_600.0)
    assert PacedClock(10.0, ahead, 5.0, hold=True).now() == 5.0
    assert PacedClock(10.0, ahead, 5.0).now() < -30_000.0
    later = PacedClock(10.0, HostSeconds(time.monotonic()))
    later.move(time.monotonic() + 3_600.0, 30.0, 10.0)
    assert later.now() == 30.0
