"""Plausibility: what is out of range, jumps or sticks is refused; what is true is not."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import measured, modelled
from node_agent.sensors.plausible import BY_UNIT, Plausible

WATTS = Quantity("power_w", "W", 10.0, measured("INA3221"))
CELSIUS = Quantity("temperature_c", "C", 10.0, measured("thermal zone"))


def flagged_at(quantity: Quantity, values: list[float], load: list[float], hz: float = 10.0) -> float | None:
    """Seconds from the start to the first refusal, None if there was none."""
    judge = Plausible(quantity)
    for n, (value, percent) in enumerate(zip(values, load, strict=True)):
        try:
            judge.check(value, n / hz, percent)
        except HardwareError:
            return n / hz
    return None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.1, 501.0])
def test_no_number_and_no_board_is_refused_at_once(value: float) -> None:
    with pytest.raises(HardwareError, match="power_w"):
        Plausible(WATTS).check(value, 0.0, 0.0)


def test_power_that_sticks_while_the_load_moves_is_flagged_within_five_seconds() -> None:
    n = 100
    swinging = [90.0 if (i // 10) % 2 else 5.0 for i in range(n)]
    found = flagged_at(WATTS, [4.888] * n, swinging)
    assert found is not None and found <= 5.0


@given(st.lists(st.floats(0.1, 100), min_size=60, max_size=60), st.lists(st.floats(0, 100), min_size=60, max_size=60))
def test_power_that_moves_is_never_called_stuck(values: list[float], load: list[float]) -> None:
    moving = [v + (i % 2) * 0.04 for i, v in enumerate(values)]
    assert flagged_at(WATTS, moving, load) is None or any(a == b for a, b in pairwise(moving))


def test_a_steady_board_is_not_stuck() -> None:
    assert flagged_at(WATTS, [4.888] * 600, [3.0] * 600) is None


def test_a_model_may_say_the_same_for_ever() -> None:
    quantity = Quantity("power_w", "W", 10.0, modelled("coefficients"))
    assert flagged_at(quantity, [2.7] * 100, [0.0, 100.0] * 50) is None


def test_a_rail_may_be_off_and_a_board_may_not() -> None:
    swinging = [0.0, 100.0] * 50
    rail = Quantity("power_cv_w", "W", 10.0, measured("INA3221 1-0041 CV"))
    assert flagged_at(rail, [0.0] * 100, swinging) is None
    assert flagged_at(rail, [0.4] * 100, swinging) is not None
    assert flagged_at(WATTS, [0.0] * 100, swinging) is not None


def test_stuck_ends_when_the_value_changes() -> None:
    judge = Plausible(WATTS)
    for n in range(50):
        try:
            judge.check(5.0, n / 10, 100.0 * (n % 2))
        except HardwareError:
            break
    else:
        pytest.fail("never flagged")
    assert judge.check(5.04, 6.0, 0.0) == 5.04


def test_a_spike_of_the_die_temperature_is_refused_and_a_rise_is_not() -> None:
    judge = Plausible(CELSIUS)
    assert judge.check(50.0, 0.0, 0.0) == 50.0
    with pytest.raises(HardwareError, match=r"from 50 to 90 C in 0.100 s"):
        judge.check(90.0, 0.1, 0.0)
    with pytest.raises(HardwareError, match="from 90 to 50"):
        judge.check(50.0, 0.2, 0.0)
    assert judge.check(55.0, 0.3, 0.0) == 55.0


def test_every_bound_has_room() -> None:
    assert all(bounds.least < bounds.most for bounds in BY_UNIT.values())
