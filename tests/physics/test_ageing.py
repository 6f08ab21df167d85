from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ground_controller.physics.ageing import depth_wear, step_wear

depth = st.floats(0.0, 1.0)


def test_a_quarter_of_life_for_five_points_of_depth() -> None:
    assert 1.0 - depth_wear(0.25) / depth_wear(0.30) == pytest.approx(0.24, abs=0.005)
    assert depth_wear(0.0) == 0.0
    assert depth_wear(1.0) == 1.0


@given(depth, depth, depth)
def test_steps_of_one_discharge_add_up(a: float, b: float, c: float) -> None:
    low, middle, high = sorted((a, b, c))
    assert_allclose(step_wear(low, middle) + step_wear(middle, high), step_wear(low, high), rtol=1e-9, atol=1e-12)


@given(depth, depth)
def test_charging_wears_nothing_and_deeper_wears_more(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert step_wear(high, low) == 0.0
    assert step_wear(low, high) >= 0.0


def test_slope_is_the_published_price() -> None:
    """L'(D) = 10^{A (D - 1)} (1 + A ln 10 D)."""
    d = np.linspace(0.05, 0.95, 10)
    slope = (depth_wear(d + 1e-6) - depth_wear(d - 1e-6)) / 2e-6
    assert_allclose(slope, 10.0 ** (0.8 * (d - 1.0)) * (1.0 + 0.8 * np.log(10.0) * d), rtol=1e-8)
