"""Energy balance of a bus: array, load, battery. Exact for constant powers over a step.

Array power first carries the load. What is left charges the battery, at `charge_efficiency`, until it is
full; the rest is unused. What is missing is drawn, at `discharge_efficiency`, until the battery is empty;
the rest is a deficit (brown-out). Over every step

    solar + deficit + drawn from store = load + losses + unused

holds to rounding, where the store's change is its stored energy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
_J_PER_WH = 3_600.0


@dataclass(frozen=True)
class Battery:
    """Parameters, each a number or an array [S]: usable Wh and efficiencies in (0, 1]."""

    capacity_wh: float | Float
    charge_efficiency: float | Float
    discharge_efficiency: float | Float

    @property
    def capacity_j(self) -> Float:
        return np.asarray(np.multiply(self.capacity_wh, _J_PER_WH), dtype=np.float64)


@dataclass(frozen=True)
class EnergyStep:
    """What one step did, each [S] in J. `stored_j` is the battery's content at the end."""

    stored_j: Float
    solar_j: Float
    load_j: Float
    unused_j: Float
    deficit_j: Float
    loss_j: Float


def step_energy(
    battery: Battery,
    stored_j: float | Float,
    solar_w: float | Float,
    load_w: float | Float,
    duration_s: float,
) -> EnergyStep:
    """The battery after `duration_s` of constant array power and load, both >= 0.

    Args:
        stored_j: [S] content at the start, 0 to capacity.
        solar_w, load_w: [S].
    """
    stored = np.asarray(stored_j, dtype=np.float64)
    solar_j = np.multiply(solar_w, duration_s, dtype=np.float64)
    load_j = np.multiply(load_w, duration_s, dtype=np.float64)
    surplus = np.maximum(solar_j - load_j, 0.0)
    missing = np.maximum(load_j - solar_j, 0.0)
    gained = np.minimum(surplus * battery.charge_efficiency, battery.capacity_j - stored)
    taken = gained / battery.charge_efficiency
    drawn = np.minimum(missing / battery.discharge_efficiency, stored)
    given = drawn * battery.discharge_efficiency
    end, solar_all, load_all = np.broadcast_arrays(stored + gained - drawn, solar_j, load_j)
    return EnergyStep(
        stored_j=np.clip(end, 0.0, battery.capacity_j),
        solar_j=solar_all.copy(),
        load_j=load_all.copy(),
        unused_j=np.asarray(np.maximum(surplus - taken, 0.0)),
        deficit_j=np.asarray(np.maximum(missing - given, 0.0)),
        loss_j=np.asarray((taken - gained) + (drawn - given)),
    )


def charge(battery: Battery, stored_j: float | Float) -> Float:
    """State of charge, 0 to 1. Depth of discharge is 1 minus it."""
    return np.asarray(np.divide(stored_j, battery.capacity_j), dtype=np.float64)
