from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ground_controller.physics.battery import BatteryState, step_energy, stored_j
from ground_controller.physics.platform import Platform
from ground_controller.physics.solar import solar_power_w
from ground_controller.physics.thermal import settled_c
from ground_controller.preparation import platform_of
from ground_controller.twin import Twin
from hil_config.errors import ConfigError
from hil_config.schema.platforms import PlatformChoice, load_platform, platform_names

PERIOD_S, DARK = 5_739.0, 0.3723  # 550 km, beta 0
LOAD_W = {"12u-bupt1": 3.0, "3u": 1.5, "6u": 5.0, "smallsat": 15.0}


@pytest.fixture
def bus() -> Platform:
    return platform_of(PlatformChoice())


@pytest.mark.parametrize("name", platform_names())
def test_presets_carry_an_orbit_with_a_busy_board_and_keep_it_alive(name: str) -> None:
    twin = Twin(platform_of(PlatformChoice(preset=name)), 1.0)
    state = twin.start([20.0], [0.9])
    seen = []
    for orbit_s in np.arange(0.0, 6 * PERIOD_S, 20.0):
        lit = float(orbit_s % PERIOD_S > DARK * PERIOD_S)
        state = twin.step(state, np.array([LOAD_W[name]]), np.array([lit]), 20.0)
        seen.append((float(state.charge[0]), float(state.temperature_c[0])))
    charge, warm = np.array(seen).T
    assert charge.min() > 0.6, "an orbit drains it"
    assert charge[-1] >= charge[len(charge) // 6] - 0.02, "it loses charge from orbit to orbit"
    assert -10.0 < warm.min() < warm.max() < 75.0
    assert float(state.deficit_j[0]) == 0.0


def test_default_array_gives_what_bupt_1_harvested(bus: Platform) -> None:
    array_w = solar_power_w(1.0, 1.0, bus.array_area_m2, bus.array_efficiency, bus.array_cos_incidence)
    assert float(array_w) * PERIOD_S * (1.0 - DARK) / 3_600.0 == pytest.approx(32.2, abs=0.2)


def test_default_board_is_as_hot_as_in_orbit(bus: Platform) -> None:
    """BUPT-1's Pi 4B neared 85 C under full load in orbit: about 5 W."""
    assert settled_c(bus.thermal, np.array([5.0, 0.0]))[0] == pytest.approx(86.4)


def test_a_night_costs_what_the_bus_draws(bus: Platform) -> None:
    state = BatteryState(np.array([0.8]), np.zeros(1))
    night = step_energy(bus.battery, state, 0.0, bus.base_load_w + 3.0, DARK * PERIOD_S)
    drawn_j = (bus.base_load_w + 3.0) * DARK * PERIOD_S
    from_store_j = float((stored_j(bus.battery, state) - stored_j(bus.battery, night.state))[0])
    assert from_store_j == pytest.approx(drawn_j / 0.97, rel=0.005)  # the rest is heat in the cells
    assert from_store_j > drawn_j / 0.97


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
        {"rc_ohm": 0.0},
    ],
)
def test_a_platform_that_cannot_be(bus: Platform, change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(bus, **change)


def test_a_plate_must_radiate(bus: Platform) -> None:
    with pytest.raises(ConfigError, match="plate_emitting_m2"):
        replace(bus, plate_capacity_j_k=1000.0)


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no platform preset '13u'") as caught:
        load_platform("13u")
    assert "12u-bupt1" in str(caught.value)
