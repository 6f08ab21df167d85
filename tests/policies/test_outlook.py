"""The time ahead against the twin that lives through it."""

from __future__ import annotations

import numpy as np
import pytest

from ground_controller.outlook import look_ahead, orbit_s, periods_s
from ground_controller.preparation import platform_of
from ground_controller.twin import Twin
from hil_config.schema.platforms import PlatformChoice, platform_names


def test_periods_are_short_first_and_fill_the_orbit() -> None:
    orbit = orbit_s(platform_of(PlatformChoice()))
    assert orbit == pytest.approx(5_730.0, abs=10.0)
    assert sum(periods_s(orbit)) == pytest.approx(orbit)
    assert periods_s(orbit)[0] == 20.0


@pytest.mark.parametrize("preset", platform_names())
def test_forecast_heat_is_the_twins(preset: str) -> None:
    """Exact without a plate; with one, within 1.5 K of the twin's die over an orbit that begins in the dark."""
    platform = platform_of(PlatformChoice(preset=preset))
    twin, power = Twin(platform, 1.0), np.array([2.0, 4.0])
    state = twin.start([30.0, 45.0], [0.8, 0.8])
    periods = (20.0, 40.0, 60.0, *((300.0,) * 18))
    dark_until = 1_320.0

    def light(after_s: np.ndarray) -> np.ndarray:
        return np.repeat(after_s > dark_until, 2).astype(float).reshape(-1, 2)

    outlook = look_ahead(twin, state, power, 1.0, light, periods)
    ahead = np.array(outlook.base_c) + np.array(outlook.warming_k_w).sum(axis=1)[:, None] * power
    seen, now = [], 0.0
    for length in periods:
        state = twin.step(state, power, light(np.array([now + length / 2]))[0], length)
        now += length
        seen.append(state.temperature_c)
        assert outlook.harvest_w[len(seen) - 1] == pytest.approx(state.harvest_w)
    assert np.abs(ahead - seen).max() < (1.5 if platform.has_plate else 1e-6)
