"""The twin: what the satellite bus would feel if the board's watts were spent in orbit.

One thermal node and one battery per satellite, stepped each tick with the board's power. Accounting under
acceleration is `duty`: the power of the tick stands for the whole scenario interval.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ground_controller.physics.ageing import step_wear
from ground_controller.physics.battery import charge, step_energy
from ground_controller.physics.platform import Platform
from ground_controller.physics.solar import solar_power_w
from ground_controller.physics.thermal import step_temperature

Float = NDArray[np.float64]


@dataclass(frozen=True)
class TwinState:
    """All [S] over satellites: degrees C, J, and J since the start; `wear` is the closed form's sum."""

    temperature_c: Float
    stored_j: Float
    solar_j: Float
    load_j: Float
    unused_j: Float
    deficit_j: Float
    wear: Float
    harvest_w: Float


@dataclass(frozen=True)
class Twin:
    """Parameters of every satellite of the bench (alike) and the Sun's distance."""

    platform: Platform
    sun_distance_au: float

    def start(self, temperature_c: list[float], charge_0: list[float]) -> TwinState:
        """Args: per satellite, the board's temperature and the state of charge (0 to 1) at scenario second 0."""
        n = len(temperature_c)
        zero = np.zeros(n)
        stored = np.array(charge_0) * self.platform.battery.capacity_j
        return TwinState(np.array(temperature_c, float), stored, zero, zero, zero, zero, zero, zero)

    def charge(self, state: TwinState) -> Float:
        """State of charge [S]."""
        return charge(self.platform.battery, state.stored_j)

    def step(self, state: TwinState, power_w: Float, illumination: Float, duration_s: float) -> TwinState:
        """Args: `power_w` [S] of the boards over the step, `illumination` [S] 0 to 1."""
        p = self.platform
        temperature = step_temperature(p.thermal, state.temperature_c, power_w, duration_s, p.environment_w)
        harvest = solar_power_w(
            illumination, self.sun_distance_au, p.array_area_m2, p.array_efficiency, p.array_cos_incidence
        )
        energy = step_energy(p.battery, state.stored_j, harvest, power_w + p.base_load_w, duration_s)
        before = 1.0 - self.charge(state)
        after = 1.0 - charge(p.battery, energy.stored_j)
        return replace(
            state,
            temperature_c=temperature,
            stored_j=energy.stored_j,
            solar_j=state.solar_j + energy.solar_j,
            load_j=state.load_j + energy.load_j,
            unused_j=state.unused_j + energy.unused_j,
            deficit_j=state.deficit_j + energy.deficit_j,
            wear=state.wear + step_wear(before, after),
            harvest_w=harvest,
        )
