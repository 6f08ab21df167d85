from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ground_controller.orbit.visibility import (
    EARTH_RADIUS_KM,
    delay_s,
    distance_km,
    longest_link_km,
    lowest_km,
    visible,
)


def test_delay_is_exact() -> None:
    assert delay_s(np.array([299_792.458, 0.0])).tolist() == [1.0, 0.0]


def test_longest_links_of_published_shells() -> None:
    """5,016.59 km at 550 km; 5,442.958203 km at 630 km (Hypatia's Kuiper-630)."""
    assert longest_link_km(550.0) == pytest.approx(5_016.59, abs=0.005)
    assert longest_link_km(630.0) == pytest.approx(5_442.958203, abs=1e-5)


@pytest.mark.parametrize(("slack", "clear"), [(-0.01, True), (0.01, False)])
def test_sight_ends_at_the_longest_link(slack: float, clear: bool) -> None:
    radius = EARTH_RADIUS_KM + 550.0
    half = np.arcsin((longest_link_km(550.0) + slack) / 2.0 / radius)
    a = radius * np.array([np.cos(half), np.sin(half), 0.0])
    b = radius * np.array([np.cos(half), -np.sin(half), 0.0])
    assert visible(a, b, 80.0, 1e9) == clear


def test_range_limit() -> None:
    a, b = np.array([7_000.0, 0.0, 0.0]), np.array([7_000.0, 1_000.0, 0.0])
    assert visible(a, b, 80.0, 1_000.0)
    assert not visible(a, b, 80.0, 999.999)


def test_the_lowest_point_may_be_an_end() -> None:
    a, b = np.array([7_000.0, 0.0, 0.0]), np.array([9_000.0, 0.0, 0.0])
    assert lowest_km(a, b) == pytest.approx(7_000.0 - EARTH_RADIUS_KM)
    assert lowest_km(a, a) == pytest.approx(7_000.0 - EARTH_RADIUS_KM)


coordinate = st.floats(-9_000.0, 9_000.0)
vector = st.tuples(coordinate, coordinate, coordinate).map(np.array)


@given(vector, vector)
def test_both_ends_see_alike_and_samples_agree(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    assert lowest_km(a, b) == pytest.approx(lowest_km(b, a), abs=1e-6)
    assert distance_km(a, b) == distance_km(b, a)
    along = np.linspace(0.0, 1.0, 201)[:, None]
    sampled = np.linalg.norm(a + along * (b - a), axis=1).min() - EARTH_RADIUS_KM
    assert lowest_km(a, b) <= sampled + 1e-6
    assert sampled - lowest_km(a, b) <= float(distance_km(a, b)) / 200.0


def test_shapes_broadcast() -> None:
    points = np.random.default_rng(1).normal(size=(5, 4, 3)) * 7_000.0
    table = visible(points[:, :, None, :], points[:, None, :, :], 80.0, 5_000.0)
    assert table.shape == (5, 4, 4)
    assert (table == np.swapaxes(table, 1, 2)).all()
