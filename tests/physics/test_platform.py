from __future__ import annotations

from dataclasses import replace

import pytest

from ground_controller.physics.battery import step_energy
from ground_controller.physics.platform import Platform
from ground_controller.physics.solar import solar_power_w
from ground_controller.physics.thermal import settled_c
from hil_config.errors import ConfigError

PERIOD_S, DARK = 5_739.0, 0.3723  # 550 km, beta 0


def test_defaults_carry_an_orbit_with_a_busy_board() -> None:
    bus = Platform()
    array_w = solar_power_w(1.0, 1.0, bus.array_area_m2, bus.array_efficiency, bus.array_cos_incidence)
    assert float(array_w) * PERIOD_S * (1.0 - DARK) / 3_600.0 == pytest.approx(32.2, abs=0.2)
    load_w = bus.base_load_w + 3.0
    full = 0.8 * bus.battery.capacity_j
    night = step_energy(bus.battery, full, 0.0, load_w, DARK * PERIOD_S)
    day = step_energy(bus.battery, night.stored_j, array_w, load_w, (1.0 - DARK) * PERIOD_S)
    assert night.deficit_j == 0.0
    assert day.stored_j >= full


def test_defaults_heat_a_board_as_in_orbit() -> None:
    """BUPT-1's Pi 4B neared 85 C under full load in orbit: about 5 W."""
    assert settled_c(Platform().thermal, 5.0) == pytest.approx(86.0)


@pytest.mark.parametrize(
    "change",
    [
        {"thermal_resistance_k_w": 0.0},
        {"battery_wh": -1.0},
        {"charge_efficiency": 0.0},
        {"discharge_efficiency": 1.1},
        {"array_cos_incidence": 2.0},
        {"base_load_w": -1.0},
        {"sink_c": float("nan")},
    ],
)
def test_a_platform_that_cannot_be(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(Platform(), **change)
