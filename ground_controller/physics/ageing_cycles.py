"""Battery wear from counted cycles: rainflow (ASTM E1049-85) with Woehler's line, and the model of Xu et al.

Two of the three ageing models that every run reports side by side (the third, `ageing.step_wear`, needs no counting),
because papers disagree on which policy they favour. Both give a share of life used: 1 is the end of life. The third
counts full discharges.

- `woehler_wear`: Miner's sum over cycles, N(D) = a D^-b. b = 1.6 follows from "a mean depth of 30 % instead of 25 %
  costs about a quarter of life" (BUPT-1, arXiv 2401.03435): ln 0.75 / ln (25/30) = 1.58. a = 5,000 cycles at full
  depth is assumed; it scales the result and never the order of policies.
- `xu_wear`: Xu, Oudalov, Ulbig, Andersson, Kirschen, IEEE Trans. Smart Grid 9(2), 2018: stress from depth, mean
  charge, temperature and time, and a film term that makes the first cycles cost more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rainflow
from numpy.typing import NDArray

Float = NDArray[np.float64]

WOEHLER_CYCLES = 5_000.0
WOEHLER_EXPONENT = 1.6
_K1, _K2, _K3 = 1.40e5, -0.501, -1.23e5
_K_CHARGE, _CHARGE_REF = 1.04, 0.5
_K_TEMPERATURE, _TEMPERATURE_REF_C = 6.93e-2, 25.0
_K_TIME = 4.14e-10
_FILM_SHARE, _FILM_RATE = 0.0575, 121.0
END_OF_LIFE_LOSS = 0.2
"""Capacity lost at the end of life, as usual for cells in vehicles and satellites."""


@dataclass(frozen=True)
class Cycles:
    """Counted cycles [K]: depth (0 to 1), mean charge, count (1 or 0.5) and mean temperature in degrees C."""

    depth: Float
    mean_charge: Float
    count: Float
    temperature_c: Float


def count_cycles(charge: Float, temperature_c: Float) -> Cycles:
    """Rainflow cycles of a history of charge [T]; each takes the mean temperature [T] between its ends.

    Charge is counted to 1e-12: `rainflow` multiplies neighbouring differences to find a turn, and misses one where the
    product is too small for a float.
    """
    history = np.round(np.asarray(charge, dtype=np.float64), 12)
    found = [
        (depth, mean, count, float(np.mean(temperature_c[first : last + 1])))
        for depth, mean, count, first, last in rainflow.extract_cycles(history)
        if depth > 0.0
    ]
    columns = np.array(found, dtype=np.float64).reshape(-1, 4)
    return Cycles(*columns.T)


def woehler_wear(cycles: Cycles, at_full_depth: float = WOEHLER_CYCLES, exponent: float = WOEHLER_EXPONENT) -> float:
    """Miner's sum: share of life used."""
    return float(np.sum(cycles.count * cycles.depth**exponent) / at_full_depth)


def xu_stress(cycles: Cycles, duration_s: float, mean_charge: float, mean_temperature_c: float) -> float:
    """Linearised degradation f of a history: cycles, and calendar time at its mean charge and temperature."""

    def condition(charge: Float | float, temperature_c: Float | float) -> Float:
        kelvin = 273.15 + np.asarray(temperature_c)
        hot = np.exp(_K_TEMPERATURE * (kelvin - 273.15 - _TEMPERATURE_REF_C) * (273.15 + _TEMPERATURE_REF_C) / kelvin)
        return np.asarray(np.exp(_K_CHARGE * (np.asarray(charge) - _CHARGE_REF)) * hot)

    depth = 1.0 / (_K1 * cycles.depth**_K2 + _K3)  # above 0 for every depth up to 1
    cycling = float(np.sum(cycles.count * depth * condition(cycles.mean_charge, cycles.temperature_c)))
    return cycling + _K_TIME * duration_s * float(condition(mean_charge, mean_temperature_c))


def xu_capacity_loss(stress: float) -> float:
    """L = 1 - a exp(-b f) - (1 - a) exp(-f): share of capacity lost after the stress f."""
    return 1.0 - _FILM_SHARE * float(np.exp(-_FILM_RATE * stress)) - (1.0 - _FILM_SHARE) * float(np.exp(-stress))


def xu_wear(cycles: Cycles, duration_s: float, mean_charge: float, mean_temperature_c: float) -> float:
    """Share of life used, the end being 20 % of capacity lost beyond what the film takes at once.

    Linear in the stress, so that short runs can be compared and extrapolated: f / f(end), f(end) = -ln(1 - 0.2).
    """
    stress = xu_stress(cycles, duration_s, mean_charge, mean_temperature_c)
    return stress / -float(np.log1p(-END_OF_LIFE_LOSS))
