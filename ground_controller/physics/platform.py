"""The satellite a board is made to stand for, as numbers with their sources."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ground_controller.physics.battery import Battery
from ground_controller.physics.thermal import ThermalNode
from hil_config.errors import ConfigError


@dataclass(frozen=True)
class Platform:
    """A small 12U bus with one single-board computer. Defaults follow BUPT-1, whose telemetry is public.

    Source of each default:

    - `thermal_resistance_k_w`, `sink_c`: Raspberry Pi 4B of BUPT-1 in orbit, 15-17 K/W to 2-10 C, fitted
      by us to its public traces (data of Xing et al., MobiCom 2024, arXiv 2401.03435). On a desk it is 7
      K/W to 25.5 C.
    - `thermal_capacity_j_k`: same fit, fast node 11-14 J/K; with 16 K/W the time constant is 200 s.
    - `environment_w`: 0, because the fitted sink already holds sunlight and Earth infrared.
    - `battery_wh`: 2 x 115 Wh, BUPT-1.
    - `base_load_w`: 22.7 Wh per 94-minute orbit for all but communication and payload, BUPT-1.
    - `array_area_m2`: our sizing, since none is published: with `array_efficiency` it gives 32 Wh in an
      orbit of 550 km at beta 0, within the 14-38 Wh an orbit that BUPT-1 harvested.
    - `array_efficiency`: 30 % triple-junction cells x 0.86 for packing, temperature and age (assumed).
    - `array_cos_incidence`: mean over the sunlit arc of a panel kept within about 45 degrees of the Sun
      (assumed).
    - `charge_efficiency`, `discharge_efficiency`: lithium-ion with its converter (assumed).
    """

    thermal_resistance_k_w: float = 16.0
    thermal_capacity_j_k: float = 12.5
    sink_c: float = 6.0
    environment_w: float = 0.0
    battery_wh: float = 230.0
    charge_efficiency: float = 0.95
    discharge_efficiency: float = 0.95
    base_load_w: float = 14.5
    array_area_m2: float = 0.13
    array_efficiency: float = 0.26
    array_cos_incidence: float = 0.7

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value):
                raise ConfigError(f"platform: {field.name} is {value}, wanted a finite number")
        for name in ("thermal_resistance_k_w", "thermal_capacity_j_k", "battery_wh"):
            if getattr(self, name) <= 0.0:
                raise ConfigError(f"platform: {name} is {getattr(self, name)}, wanted more than 0")
        for name in ("charge_efficiency", "discharge_efficiency"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ConfigError(f"platform: {name} is {getattr(self, name)}, wanted above 0 and at most 1")
        for name in ("array_efficiency", "array_cos_incidence"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"platform: {name} is {getattr(self, name)}, wanted 0 to 1")
        for name in ("base_load_w", "array_area_m2"):
            if getattr(self, name) < 0.0:
                raise ConfigError(f"platform: {name} is {getattr(self, name)}, wanted at least 0")

    @property
    def thermal(self) -> ThermalNode:
        return ThermalNode(self.thermal_resistance_k_w, self.thermal_capacity_j_k, self.sink_c)

    @property
    def battery(self) -> Battery:
        return Battery(self.battery_wh, self.charge_efficiency, self.discharge_efficiency)
