"""One-node thermal model of a board: capacity C behind resistance R to a sink at a fixed temperature.

C dT/dt = P + Q - (T - T_sink) / R, advanced exactly over a step of constant P and Q, so the answer does not
depend on how an interval is cut into steps. All compute power becomes heat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class ThermalNode:
    """Parameters, each a number or an array [S] over satellites: K/W, J/K, degrees C."""

    resistance_k_w: float | Float
    capacity_j_k: float | Float
    sink_c: float | Float

    @property
    def time_constant_s(self) -> Float:
        """R C."""
        return np.asarray(np.multiply(self.resistance_k_w, self.capacity_j_k), dtype=np.float64)


def settled_c(node: ThermalNode, power_w: float | Float, environment_w: float | Float = 0.0) -> Float:
    """Temperature reached after a long time at constant power."""
    return np.asarray(node.sink_c + node.resistance_k_w * np.add(power_w, environment_w), dtype=np.float64)


def step_temperature(
    node: ThermalNode,
    temperature_c: float | Float,
    power_w: float | Float,
    duration_s: float,
    environment_w: float | Float = 0.0,
) -> Float:
    """Temperatures [S] after `duration_s` at constant power and constant heat from the environment.

    Args:
        temperature_c: [S] at the start.
        power_w: [S] electrical power, all of it heat.
        environment_w: [S] absorbed sunlight, albedo and Earth infrared beyond what `sink_c` stands for.
    """
    end = settled_c(node, power_w, environment_w)
    gap = np.asarray(temperature_c, dtype=np.float64) - end
    return np.asarray(end + gap * np.exp(-duration_s / node.time_constant_s), dtype=np.float64)


def mean_temperature(
    node: ThermalNode,
    temperature_c: float | Float,
    power_w: float | Float,
    duration_s: float,
    environment_w: float | Float = 0.0,
) -> Float:
    """Mean over the same step, exact; `duration_s` > 0."""
    end = settled_c(node, power_w, environment_w)
    ratio = duration_s / node.time_constant_s
    gap = np.asarray(temperature_c, dtype=np.float64) - end
    return np.asarray(end + gap * -np.expm1(-ratio) / ratio, dtype=np.float64)


def heating_k(node: ThermalNode, energy_j: float | Float) -> Float:
    """Temperature rise of a burst of heat much shorter than the time constant: E / C."""
    return np.asarray(np.divide(energy_j, node.capacity_j_k), dtype=np.float64)
