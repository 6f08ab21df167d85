from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground_controller.physics.thermal import (
    ThermalNode,
    heating_k,
    mean_temperature,
    settled_c,
    step_temperature,
)

NODE = ThermalNode(16.0, 12.5, 6.0)


def test_step_response_is_the_closed_form() -> None:
    after = step_temperature(NODE, 6.0, 4.0, 200.0)
    assert after == pytest.approx(6.0 + 64.0 * (1.0 - np.exp(-1.0)), rel=1e-12)
    assert NODE.time_constant_s == 200.0


@given(
    st.floats(-40.0, 90.0),
    st.floats(0.0, 15.0),
    st.floats(0.0, 5.0),
    st.floats(1e-3, 1e4),
    st.integers(2, 40),
)
def test_steps_may_be_cut_anywhere(start: float, power: float, heat: float, span: float, cuts: int) -> None:
    whole = step_temperature(NODE, start, power, span, heat)
    parts = np.asarray(start)
    mean = 0.0
    for _ in range(cuts):
        mean += float(mean_temperature(NODE, parts, power, span / cuts, heat)) / cuts
        parts = step_temperature(NODE, parts, power, span / cuts, heat)
    assert parts == pytest.approx(whole, rel=1e-9, abs=1e-9)
    assert mean == pytest.approx(mean_temperature(NODE, start, power, span, heat), rel=1e-9, abs=1e-9)


@given(st.floats(-40.0, 90.0), st.floats(0.0, 15.0), st.floats(1e-3, 1e4))
def test_heat_balance_closes(start: float, power: float, span: float) -> None:
    end = step_temperature(NODE, start, power, span)
    mean = mean_temperature(NODE, start, power, span)
    stored = 12.5 * (end - start)
    assert stored == pytest.approx(power * span - (mean - 6.0) / 16.0 * span, rel=1e-9, abs=1e-6)


def test_a_settled_board_stays() -> None:
    rest = settled_c(NODE, 3.0, 0.5)
    assert rest == 6.0 + 16.0 * 3.5
    assert step_temperature(NODE, rest, 3.0, 1e6, 0.5) == pytest.approx(rest, rel=1e-12)


def test_satellites_side_by_side() -> None:
    nodes = ThermalNode(np.array([16.0, 7.0]), np.array([12.5, 12.5]), np.array([6.0, 25.5]))
    both = step_temperature(nodes, np.array([20.0, 30.0]), np.array([3.0, 4.0]), 60.0)
    assert both[0] == step_temperature(NODE, 20.0, 3.0, 60.0)
    assert both[1] == step_temperature(ThermalNode(7.0, 12.5, 25.5), 30.0, 4.0, 60.0)


def test_heating_of_a_call() -> None:
    assert heating_k(NODE, 1.25e-3) == pytest.approx(1e-4)
    brief = step_temperature(NODE, 6.0, 1.25e-3 / 1e-3, 1e-3) - 6.0
    assert brief == pytest.approx(heating_k(NODE, 1.25e-3), rel=1e-4)
