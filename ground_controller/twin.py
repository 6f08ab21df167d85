"""The twin: what the satellite bus would feel if the board's watts were spent in orbit.

A thermal network (die, case, and a plate where the platform has one) and a battery per satellite, stepped each tick
with the board's power. Under acceleration the work accounting says what that power stands for (`work_power_w`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ground_controller.physics.ageing import step_wear
from ground_controller.physics.battery import BatteryState, step_energy, terminal_v
from ground_controller.physics.orbital_heat import orbital_heat_w
from ground_controller.physics.platform import Platform
from ground_controller.physics.solar import solar_power_w
from ground_controller.physics.thermal import step_temperature

Float = NDArray[np.float64]
Accounting = Literal["duty", "once"]


def work_power_w(accounting: Accounting, power_w: Float, idle_w: Float, rate: float) -> Float:
    """Power [S] that an orbit second is charged with when `rate` orbit seconds pass in one host second.

    `duty`: the measured power stands for the whole interval, as if the board worked on at that pace. `once`: idle
    power passes in orbit time, what is above it is spent once, in host time. Both are the same at rate 1.
    """
    if accounting == "duty":
        return power_w
    idle = np.minimum(idle_w, power_w)
    return idle + (power_w - idle) / rate


@dataclass(frozen=True)
class TwinState:
    """All [S] over satellites, `nodes_c` [S, N] over the nodes of the thermal network, the die first.

    Degrees C, J since the start, V; `wear` is the sum of the closed form.
    """

    nodes_c: Float
    battery: BatteryState
    voltage_v: Float
    solar_j: Float
    load_j: Float
    unused_j: Float
    deficit_j: Float
    wear: Float
    harvest_w: Float

    @property
    def temperature_c(self) -> Float:
        """Of the boards' dies [S]."""
        return self.nodes_c[:, 0]

    @property
    def charge(self) -> Float:
        """State of charge [S], 0 to 1."""
        return self.battery.charge


@dataclass(frozen=True)
class Twin:
    """Parameters of every satellite of the bench (alike) and the Sun's distance."""

    platform: Platform
    sun_distance_au: float

    def start(self, temperature_c: list[float], charge_0: list[float]) -> TwinState:
        """Args: per satellite, the board's temperature and the state of charge (0 to 1) at scenario second 0.

        The case starts where it would settle with the board held at its temperature; a plate as warm as the case.
        """
        p = self.platform
        die = np.array(temperature_c, dtype=np.float64)
        share = p.case_resistance_k_w / (p.thermal_resistance_k_w + p.case_resistance_k_w)
        case = p.sink_c + (die - p.sink_c) * share
        nodes = [die, case, case] if p.has_plate else [die, case]
        n = len(die)
        zero = np.zeros(n)
        battery = BatteryState(np.array(charge_0, dtype=np.float64), zero)
        return TwinState(
            np.stack(nodes, axis=1), battery, terminal_v(p.battery, battery), zero, zero, zero, zero, zero, zero
        )

    def step(
        self,
        state: TwinState,
        power_w: Float,
        illumination: Float,
        duration_s: float,
        transmit_w: Float | None = None,
    ) -> TwinState:
        """Args: `power_w` [S] of the boards over the step, `illumination` [S] 0 to 1, `transmit_w` [S] of their
        satellites' transmitters, whose heat goes into the plate, or the case where there is none."""
        p = self.platform
        sent_w = np.zeros_like(power_w) if transmit_w is None else transmit_w
        heat = np.zeros_like(state.nodes_c)
        heat[:, 0] = power_w + p.environment_w
        if p.has_plate:
            absorbed = orbital_heat_w(
                illumination, self.sun_distance_au, p.plate_sun_m2, p.plate_earth_m2, p.plate_infrared_m2, p.altitude_km
            )
            heat[:, 2] = absorbed + p.bus_heat_share * p.base_load_w
        heat[:, -1] += sent_w
        harvest = solar_power_w(
            illumination, self.sun_distance_au, p.array_area_m2, p.array_efficiency, p.array_cos_incidence
        )
        energy = step_energy(p.battery, state.battery, harvest, power_w + sent_w + p.base_load_w, duration_s)
        return replace(
            state,
            nodes_c=step_temperature(p.thermal, state.nodes_c, heat, duration_s),
            battery=energy.state,
            voltage_v=energy.voltage_v,
            solar_j=state.solar_j + energy.solar_j,
            load_j=state.load_j + energy.load_j,
            unused_j=state.unused_j + energy.unused_j,
            deficit_j=state.deficit_j + energy.deficit_j,
            wear=state.wear + step_wear(1.0 - state.charge, 1.0 - energy.state.charge),
            harvest_w=harvest,
        )
