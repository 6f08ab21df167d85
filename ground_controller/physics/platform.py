"""The satellite a board is made to stand for, as numbers. The presets and their sources are in hil_config/platforms."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from ground_controller.physics.battery import Battery
from ground_controller.physics.thermal import ThermalNetwork
from hil_config.errors import ConfigError

_POSITIVE = ("thermal_resistance_k_w", "thermal_capacity_j_k", "case_resistance_k_w", "case_capacity_j_k",
             "battery_wh", "series_ohm", "rc_ohm", "rc_s")  # fmt: skip
_SHARES = ("array_efficiency", "array_cos_incidence", "bus_heat_share")
_EFFICIENCIES = ("charge_efficiency", "discharge_efficiency")
_ANY_SIGN = ("sink_c", "environment_w")


@dataclass(frozen=True)
class Platform:
    """One satellite bus with one board in it.

    Heat: board die -> (`thermal_resistance_k_w`) -> its case -> (`case_resistance_k_w`) -> a sink at `sink_c`, or,
    with `plate_capacity_j_k` above 0, a plate of that capacity which radiates to space over `plate_emitting_m2`
    (emissivity x area) and absorbs sunlight, albedo and Earth infrared over `plate_sun_m2`, `plate_earth_m2`,
    `plate_infrared_m2` (absorptance or emissivity x area) at `altitude_km`, and `bus_heat_share` of the base load.
    `environment_w` is further heat into the die.

    Energy: `battery_wh` of cells with `series_ohm`, `rc_ohm`, `rc_s` (of a 118.8 Wh pack) behind converters; an array
    of `array_area_m2` x `array_efficiency` at the mean `array_cos_incidence` while sunlit; `base_load_w` besides the
    board; `transmit_j_per_bit` for every bit sent to another satellite.
    """

    thermal_resistance_k_w: float
    thermal_capacity_j_k: float
    case_resistance_k_w: float
    case_capacity_j_k: float
    sink_c: float
    environment_w: float
    plate_capacity_j_k: float
    plate_emitting_m2: float
    plate_sun_m2: float
    plate_earth_m2: float
    plate_infrared_m2: float
    bus_heat_share: float
    altitude_km: float
    battery_wh: float
    series_ohm: float
    rc_ohm: float
    rc_s: float
    charge_efficiency: float
    discharge_efficiency: float
    base_load_w: float
    array_area_m2: float
    array_efficiency: float
    array_cos_incidence: float
    transmit_j_per_bit: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, name = getattr(self, field.name), field.name
            if not math.isfinite(value):
                raise ConfigError(f"platform: {name} is {value}, wanted a finite number")
            if name in _POSITIVE and value <= 0.0:
                raise ConfigError(f"platform: {name} is {value}, wanted more than 0")
            if name in _EFFICIENCIES and not 0.0 < value <= 1.0:
                raise ConfigError(f"platform: {name} is {value}, wanted above 0 and at most 1")
            if name in _SHARES and not 0.0 <= value <= 1.0:
                raise ConfigError(f"platform: {name} is {value}, wanted 0 to 1")
            if name not in _ANY_SIGN and value < 0.0:
                raise ConfigError(f"platform: {name} is {value}, wanted at least 0")
        if self.has_plate and self.plate_emitting_m2 == 0.0:
            raise ConfigError("platform: plate_emitting_m2 is 0: a plate that cannot radiate only ever warms up")

    @property
    def has_plate(self) -> bool:
        return self.plate_capacity_j_k > 0.0

    @cached_property
    def thermal(self) -> ThermalNetwork:
        """Die, case and, where there is one, plate."""
        die_case, case_sink = 1.0 / self.thermal_resistance_k_w, 1.0 / self.case_resistance_k_w
        if not self.has_plate:
            return ThermalNetwork(
                np.array([self.thermal_capacity_j_k, self.case_capacity_j_k]),
                np.array([[0.0, die_case], [die_case, 0.0]]), np.array([0.0, case_sink]), self.sink_c, np.zeros(2),
            )  # fmt: skip
        links = np.zeros((3, 3))
        links[0, 1] = links[1, 0] = die_case
        links[1, 2] = links[2, 1] = case_sink
        return ThermalNetwork(
            np.array([self.thermal_capacity_j_k, self.case_capacity_j_k, self.plate_capacity_j_k]),
            links, np.zeros(3), self.sink_c, np.array([0.0, 0.0, self.plate_emitting_m2]),
        )  # fmt: skip

    @cached_property
    def battery(self) -> Battery:
        return Battery(
            self.battery_wh, self.charge_efficiency, self.discharge_efficiency, self.series_ohm, self.rc_ohm, self.rc_s
        )
