from __future__ import annotations

import numpy as np
import pytest

from ground_controller.orbit.attitude import Array, array_power_w, cos_incidence
from ground_controller.orbit.sunlight import AU_KM, beta_deg, illumination, sun, sun_position_km
from ground_controller.orbit.walker import WalkerShell
from hil_config.errors import ConfigError

DAY = np.array([2_460_604.5])
ONE = WalkerShell(550.0, 53.0, 1, 1, node_deg=60.0)
TIME = np.arange(0.0, ONE.period_s, 5.0)
POSITION, VELOCITY = ONE.states(TIME)
SUN = np.broadcast_to(sun_position_km(DAY), (TIME.size, 3))


def test_an_array_on_one_axis_loses_the_cosine_of_beta() -> None:
    beta = float(beta_deg(np.array(53.0), np.array(60.0), sun(DAY))[0])
    found = cos_incidence("one_axis", POSITION, VELOCITY, SUN)
    assert found == pytest.approx(np.full(found.shape, np.cos(np.radians(beta))), abs=1e-4)


def test_an_array_to_the_zenith_sees_the_sun_pass() -> None:
    found = cos_incidence("zenith", POSITION, VELOCITY, SUN)[:, 0]
    beta = float(beta_deg(np.array(53.0), np.array(60.0), sun(DAY))[0])
    assert found.max() == pytest.approx(np.cos(np.radians(beta)), abs=1e-3)
    assert found.min() == 0.0
    assert found.mean() == pytest.approx(np.cos(np.radians(beta)) / np.pi, rel=1e-3)


def test_power_of_a_square_metre_that_follows_the_sun() -> None:
    lit = illumination(POSITION, SUN[:, None, :])
    found = array_power_w(Array(1.0, 0.3, "sun"), lit, POSITION, VELOCITY, SUN)
    distance_au = np.linalg.norm(SUN[0]) / AU_KM
    assert found.max() == pytest.approx(1361.0 * 0.3 / distance_au**2, rel=1e-9)
    assert (found[lit == 0.0] == 0.0).all() and (lit == 0.0).any()
    fixed = array_power_w(Array(1.0, 0.3, "zenith"), lit, POSITION, VELOCITY, SUN)
    assert (fixed <= found).all() and fixed.sum() < 0.6 * found.sum()


@pytest.mark.parametrize("values", [{"area_m2": -1.0}, {"efficiency": 1.1}, {"mount": "x"}])
def test_arrays_that_cannot_be(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="array"):
        Array(**values)  # type: ignore[arg-type]
