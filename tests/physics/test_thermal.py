from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ground_controller.physics.orbital_heat import earth_view_factor, orbital_heat_w
from ground_controller.physics.thermal import (
    KELVIN,
    STEFAN_BOLTZMANN_W_M2_K4,
    ThermalNetwork,
    heating_k,
    settled_c,
    step_temperature,
)

ONE = ThermalNetwork(np.array([12.5]), np.zeros((1, 1)), np.array([1 / 16.0]), 6.0, np.zeros(1))
BOARD = ThermalNetwork(
    np.array([12.7, 910.0]), np.array([[0.0, 1 / 16.2], [1 / 16.2, 0.0]]), np.array([0.0, 1 / 0.7]), 1.9, np.zeros(2)
)
PLATE = ThermalNetwork(np.array([1800.0]), np.zeros((1, 1)), np.zeros(1), 0.0, np.array([0.05]))


def test_step_response_of_one_node_is_the_closed_form() -> None:
    after = step_temperature(ONE, np.array([6.0]), np.array([4.0]), 200.0)
    assert after[0] == pytest.approx(6.0 + 64.0 * (1.0 - np.exp(-1.0)), rel=1e-12)


def test_step_response_of_two_nodes_is_the_closed_form() -> None:
    """Roots of the characteristic polynomial, constants from T(0) and dT/dt(0)."""
    c1, c2 = BOARD.capacity_j_k
    g, s = 1 / 16.2, 1 / 0.7
    a, b = g / c1 + (g + s) / c2, g * s / (c1 * c2)
    w1, w2 = (a + np.sqrt(a * a - 4 * b)) / 2, (a - np.sqrt(a * a - 4 * b)) / 2
    end, slope, t = 1.9 + 4.0 * 16.9, 4.0 / c1, 137.0
    start = 1.9
    k2 = (slope + w1 * (start - end)) / (w1 - w2)
    wanted = end + (start - end - k2) * np.exp(-w1 * t) + k2 * np.exp(-w2 * t)
    assert step_temperature(BOARD, np.array([1.9, 1.9]), np.array([4.0, 0.0]), t)[0] == pytest.approx(wanted, rel=1e-9)


watts = st.floats(0.0, 15.0)


@given(st.floats(-40.0, 90.0), st.floats(-40.0, 90.0), watts, watts, st.floats(1e-3, 1e4), st.integers(2, 40))
def test_steps_may_be_cut_anywhere(die: float, case: float, power: float, heat: float, span: float, cuts: int) -> None:
    start, into = np.array([die, case]), np.array([power, heat])
    parts = start
    for _ in range(cuts):
        parts = step_temperature(BOARD, parts, into, span / cuts)
    assert parts == pytest.approx(step_temperature(BOARD, start, into, span), rel=1e-9, abs=1e-9)


@given(watts, watts)
def test_a_settled_board_stays(power: float, heat: float) -> None:
    into = np.array([power, heat])
    rest = settled_c(BOARD, into)
    assert rest == pytest.approx([1.9 + 0.7 * (power + heat) + 16.2 * power, 1.9 + 0.7 * (power + heat)], rel=1e-9)
    assert step_temperature(BOARD, rest, into, 1e6) == pytest.approx(rest, rel=1e-9)


def _radiated_for_s(start_k: float, end_k: float, rest_k: float) -> float:
    """Time a lone plate takes from one temperature to another: the integral of dT / (k (R^4 - T^4))."""
    k = 0.05 * STEFAN_BOLTZMANN_W_M2_K4 / 1800.0

    def f(t: float) -> float:
        return float((np.log(abs((rest_k + t) / (rest_k - t))) + 2.0 * np.arctan(t / rest_k)) / (4.0 * rest_k**3))

    return (f(end_k) - f(start_k)) / k


@pytest.mark.parametrize(("start_c", "heat_w"), [(-60.0, 20.0), (60.0, 20.0), (10.0, 45.0)])
def test_a_radiating_plate_follows_its_closed_form(start_c: float, heat_w: float) -> None:
    rest_k = (heat_w / (0.05 * STEFAN_BOLTZMANN_W_M2_K4)) ** 0.25
    end_c = step_temperature(PLATE, np.array([start_c]), np.array([heat_w]), 5_739.0)[0]
    took_s = _radiated_for_s(start_c + KELVIN, end_c + KELVIN, rest_k)
    slope = (heat_w - 0.05 * STEFAN_BOLTZMANN_W_M2_K4 * (end_c + KELVIN) ** 4) / 1800.0
    assert abs(took_s - 5_739.0) * abs(slope) < 1e-4, "kelvin that the step is off"
    assert settled_c(PLATE, np.array([heat_w]))[0] == pytest.approx(rest_k - KELVIN, abs=1e-9)


@pytest.mark.parametrize("cut_s", [1.0, 7.0, 60.0])
def test_radiating_steps_hardly_depend_on_where_they_are_cut(cut_s: float) -> None:
    links = np.array([[0.0, 1 / 6.0, 0.0], [1 / 6.0, 0.0, 1 / 0.7], [0.0, 1 / 0.7, 0.0]])
    bus = ThermalNetwork(np.array([12.7, 200.0, 1800.0]), links, np.zeros(3), 0.0, np.array([0.0, 0.0, 0.05]))
    into = np.array([3.5, 0.0, 25.0])
    parts = np.full(3, 5.0)
    for _ in range(int(420 / cut_s)):
        parts = step_temperature(bus, parts, into, cut_s)
    assert parts == pytest.approx(step_temperature(bus, np.full(3, 5.0), into, 420.0), abs=1e-4)


def test_satellites_side_by_side() -> None:
    both = step_temperature(BOARD, np.array([[20.0, 10.0], [30.0, 12.0]]), np.array([[3.0, 0.0], [4.0, 1.0]]), 60.0)
    for row, start, heat in zip(both, ([20.0, 10.0], [30.0, 12.0]), ([3.0, 0.0], [4.0, 1.0]), strict=True):
        assert row == pytest.approx(step_temperature(BOARD, np.array(start), np.array(heat), 60.0), rel=1e-12)


def test_heating_of_a_call() -> None:
    assert heating_k(BOARD, 1.27e-3) == pytest.approx(1e-4)
    brief = step_temperature(BOARD, np.array([1.9, 1.9]), np.array([1.27, 0.0]), 1e-3)[0] - 1.9
    assert brief == pytest.approx(float(heating_k(BOARD, 1.27e-3)), rel=1e-4)


def test_heat_from_sun_and_earth() -> None:
    assert earth_view_factor(550.0) == pytest.approx(0.847, abs=0.001)
    dark = orbital_heat_w(0.0, 1.0, 0.01, 0.02, 0.03, 550.0)
    assert float(dark) == pytest.approx(0.03 * 237.0 * earth_view_factor(550.0))
    lit: NDArray[np.float64] = orbital_heat_w(np.array([0.5, 1.0]), 1.0, 0.01, 0.02, 0.03, 550.0)
    by_hand = 1361.0 * (0.01 + 0.02 * 0.3 * earth_view_factor(550.0))
    assert (lit - dark).tolist() == pytest.approx([0.5 * by_hand, by_hand])
