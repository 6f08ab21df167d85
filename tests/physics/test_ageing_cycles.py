from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ground_controller.physics.ageing_cycles import (
    Cycles,
    count_cycles,
    woehler_wear,
    xu_capacity_loss,
    xu_stress,
    xu_wear,
)


def saw(depth: float, count: int) -> np.ndarray:
    """`count` full cycles between 1 and 1 - depth, which rainflow takes as that many whole cycles."""
    return np.array([1.0, *[1.0 - depth, 1.0] * count])


def test_the_example_of_the_standard() -> None:
    """ASTM E1049-85, figure 6: half cycles of 3, 4, 6, 8, 9 and one whole of 4."""
    history = np.array([-2, 1, -3, 5, -1, 3, -4, 4, -2]) / 10.0
    cycles = count_cycles(history, np.full(9, 20.0))
    found = sorted(zip(np.round(cycles.depth * 10.0, 9).tolist(), cycles.count.tolist(), strict=True))
    assert found == [(3.0, 0.5), (4.0, 0.5), (4.0, 1.0), (6.0, 0.5), (8.0, 0.5), (8.0, 0.5), (9.0, 0.5)]


@given(st.floats(0.05, 0.9), st.integers(1, 30))
def test_woehler_is_miners_sum(depth: float, count: int) -> None:
    cycles = count_cycles(saw(depth, count), np.full(2 * count + 1, 25.0))
    assert woehler_wear(cycles) == pytest.approx(count * depth**1.6 / 5_000.0, rel=1e-9)


def test_a_quarter_of_life_for_five_points_of_depth() -> None:
    shallow, deep = (woehler_wear(count_cycles(saw(d, 3), np.full(7, 25.0))) for d in (0.25, 0.30))
    assert 1.0 - shallow / deep == pytest.approx(0.25, abs=0.01)


def test_xu_by_hand() -> None:
    """One cycle of depth 0.5 about a charge of 0.5 at 25 C has all factors but depth at 1."""
    cycle = Cycles(np.array([0.5]), np.array([0.5]), np.array([1.0]), np.array([25.0]))
    assert xu_stress(cycle, 0.0, 0.5, 25.0) == pytest.approx(1.0 / (1.4e5 * 0.5**-0.501 - 1.23e5), rel=1e-12)
    hot = Cycles(np.array([0.5]), np.array([0.7]), np.array([0.5]), np.array([45.0]))
    factor = 0.5 * np.exp(1.04 * 0.2) * np.exp(0.0693 * 20.0 * 298.15 / 318.15)
    assert xu_stress(hot, 0.0, 0.5, 25.0) == pytest.approx(factor * xu_stress(cycle, 0.0, 0.5, 25.0), rel=1e-12)
    rest = Cycles(*(np.zeros(0),) * 4)
    assert xu_stress(rest, 3.156e7, 0.5, 25.0) == pytest.approx(4.14e-10 * 3.156e7, rel=1e-12)


def test_the_film_takes_its_share_first() -> None:
    assert xu_capacity_loss(0.0) == 0.0
    assert xu_capacity_loss(0.02) == pytest.approx(1 - 0.0575 * np.exp(-2.42) - 0.9425 * np.exp(-0.02), rel=1e-12)
    assert xu_capacity_loss(0.02) > 3.0 * 0.02


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=40), st.floats(-10.0, 60.0))
@example([1.0, 5e-324, 0.0, 0.5], 0.0)
def test_hotter_and_deeper_wears_more(charge: list[float], warm_c: float) -> None:
    history = np.array(charge)
    temperature = np.full(len(history), warm_c)
    cycles = count_cycles(history, temperature)
    mean = float(history.mean())
    usual = xu_wear(cycles, 5_740.0, mean, warm_c)
    assert usual > 0.0
    assert xu_wear(count_cycles(history, temperature + 10.0), 5_740.0, mean, warm_c + 10.0) > usual
    assert woehler_wear(count_cycles(history / 2, temperature)) <= woehler_wear(cycles)


def test_a_flat_history_has_no_cycles() -> None:
    cycles = count_cycles(np.full(10, 0.8), np.full(10, 20.0))
    assert (cycles.depth.size, woehler_wear(cycles)) == (0, 0.0)
