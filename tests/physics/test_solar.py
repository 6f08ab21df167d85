from __future__ import annotations

import numpy as np
import pytest

from ground_controller.physics.solar import solar_power_w


def test_power_at_one_unit_of_distance() -> None:
    assert solar_power_w(1.0, 1.0, 1.0, 0.3) == pytest.approx(408.3)


def test_power_swings_by_a_fifteenth_over_the_year() -> None:
    near, far = solar_power_w(1.0, np.array([0.98331, 1.01673]), 1.0, 1.0)
    assert near / far == pytest.approx(1.0691, abs=1e-4)


def test_dark_or_turned_away_gives_nothing() -> None:
    assert solar_power_w(np.array([0.0, 1.0]), 1.0, 1.0, 0.3, np.array([1.0, -0.5])).tolist() == [0.0, 0.0]
