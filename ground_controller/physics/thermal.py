"""Thermal networks: heat capacities joined by conductances, to a sink at a fixed temperature and to space.

    C_i dT_i/dt = q_i + sum_j G_ij (T_j - T_i) + G_i,sink (T_sink - T_i) - (eps A)_i sigma T_i^4

Without radiating nodes the network is linear and a step of constant heat is exact (eigenvectors of the symmetric
matrix C^-1/2 G C^-1/2), so the answer does not depend on how an interval is cut. With radiation each part of a step,
`PART_S` at most, is exact for the network linearised at its start (exponential Rosenbrock-Euler); against the closed
form of a lone radiating plate that is better than 1e-4 K over an orbit (tests/physics/test_thermal.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

STEFAN_BOLTZMANN_W_M2_K4 = 5.670374419e-8
"""CODATA 2018, exact."""
KELVIN = 273.15
PART_S = 10.0
"""Longest part of a step that is linearised once, where something radiates."""
_SETTLE_ROUNDS = 50


@dataclass(frozen=True)
class ThermalNetwork:
    """One network, the same for every satellite.

    Args:
        capacity_j_k: [N], above 0.
        conductance_w_k: [N, N] between nodes, symmetric, diagonal 0.
        sink_w_k: [N] to the sink; `sink_c` its temperature.
        emitting_m2: [N] emissivity x area that faces space.
    """

    capacity_j_k: Float
    conductance_w_k: Float
    sink_w_k: Float
    sink_c: float
    emitting_m2: Float

    @property
    def radiates(self) -> bool:
        return bool(np.any(self.emitting_m2 > 0.0))

    @property
    def laplacian_w_k(self) -> Float:
        """[N, N]: heat leaving each node per kelvin, radiation left out."""
        return np.diag(self.conductance_w_k.sum(axis=1) + self.sink_w_k) - self.conductance_w_k


def net_heat_w(network: ThermalNetwork, temperature_c: Float, heat_w: Float) -> Float:
    """[..., N] W into each node."""
    space = network.emitting_m2 * STEFAN_BOLTZMANN_W_M2_K4 * (temperature_c + KELVIN) ** 4
    linear = temperature_c @ network.laplacian_w_k
    return np.asarray(heat_w + network.sink_w_k * network.sink_c - linear - space, dtype=np.float64)


def stiffness_w_k(network: ThermalNetwork, temperature_c: Float) -> Float:
    """[..., N, N]: minus the derivative of `net_heat_w`, symmetric and positive."""
    emitted = 4.0 * network.emitting_m2 * STEFAN_BOLTZMANN_W_M2_K4 * (temperature_c + KELVIN) ** 3
    return np.asarray(network.laplacian_w_k + emitted[..., None] * np.eye(len(network.capacity_j_k)), dtype=np.float64)


def response_k_w(network: ThermalNetwork, slope_w_k: Float, duration_s: float) -> Float:
    """[..., N, N]: temperature change of each node after `duration_s` per W of net heat into each at the start.

    The integral of exp(-C^-1 slope t) C^-1 over the duration, for a `slope_w_k` [..., N, N] that is symmetric.
    """
    root = np.sqrt(network.capacity_j_k)
    rates, modes = np.linalg.eigh(slope_w_k / np.outer(root, root))
    # (1 - exp(-w t)) / w, which is t for a mode that leads nowhere.
    leads = rates * duration_s > 1e-12
    safe = np.where(leads, rates, 1.0)
    gain = np.where(leads, -np.expm1(-safe * duration_s) / safe, duration_s)
    return np.asarray((modes * gain[..., None, :]) @ np.swapaxes(modes, -1, -2) / np.outer(root, root))


def _part(network: ThermalNetwork, temperature_c: Float, heat_w: Float, duration_s: float) -> Float:
    # A network that only conducts has one matrix for all satellites; a radiating one has a matrix each.
    stiffness = stiffness_w_k(network, temperature_c) if network.radiates else network.laplacian_w_k
    response = response_k_w(network, stiffness, duration_s)
    change = (response @ net_heat_w(network, temperature_c, heat_w)[..., None])[..., 0]
    return np.asarray(temperature_c + change, dtype=np.float64)


def step_temperature(
    network: ThermalNetwork, temperature_c: float | Float, heat_w: float | Float, duration_s: float
) -> Float:
    """Temperatures [..., N] after `duration_s` of constant heat [..., N] into the nodes."""
    shape = np.broadcast_shapes(np.shape(temperature_c), np.shape(heat_w), network.capacity_j_k.shape)
    now = np.broadcast_to(np.asarray(temperature_c, dtype=np.float64), shape)
    heat = np.broadcast_to(np.asarray(heat_w, dtype=np.float64), shape)
    parts = max(1, math.ceil(duration_s / PART_S)) if network.radiates else 1
    for _ in range(parts):
        now = _part(network, now, heat, duration_s / parts)
    return now


def settled_c(network: ThermalNetwork, heat_w: float | Float) -> Float:
    """Temperatures [..., N] reached after a long time at constant heat [..., N] (Newton's method where it radiates)."""
    heat = np.broadcast_to(
        np.asarray(heat_w, dtype=np.float64), np.broadcast_shapes(np.shape(heat_w), network.capacity_j_k.shape)
    )
    now = np.full(heat.shape, 20.0)
    for _ in range(_SETTLE_ROUNDS):
        residue = net_heat_w(network, now, heat)
        change = np.linalg.solve(stiffness_w_k(network, now), residue[..., None])[..., 0]
        now = np.maximum(now + change, -KELVIN + 1.0)
        if np.abs(change).max() < 1e-10:
            break
    return now


def heating_k(network: ThermalNetwork, energy_j: float | Float) -> Float:
    """Temperature rise of the first node from a burst of heat much shorter than its time constant: E / C."""
    return np.asarray(np.divide(energy_j, network.capacity_j_k[0]), dtype=np.float64)
