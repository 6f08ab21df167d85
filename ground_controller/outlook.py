"""The time ahead, as a policy may know it: sunlight from the schedule, warming from the twin's thermal network.

Where a plate radiates, the network is linearised at the mean temperature of the satellites now; the error over an
orbit is that of the fourth power over the swing of the plate. The rest is exact for constant power in a period.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ground_controller.physics.orbital_heat import orbital_heat_w
from ground_controller.physics.platform import Platform
from ground_controller.physics.solar import solar_power_w
from ground_controller.physics.thermal import net_heat_w, response_k_w, stiffness_w_k
from ground_controller.policies.view import Outlook
from ground_controller.twin import Twin, TwinState

Float = NDArray[np.float64]

EARTH_RADIUS_KM, EARTH_MU_KM3_S2 = 6_378.137, 398_600.4418
SHORT_S = (20.0, 40.0, 60.0, 120.0, 240.0)
LONG_S = 300.0
SAMPLE_S = 60.0
"""Sunlight is averaged over samples at most this far apart."""


def orbit_s(platform: Platform) -> float:
    """Period of a circular orbit at the platform's altitude."""
    return 2.0 * math.pi * math.sqrt((EARTH_RADIUS_KM + platform.altitude_km) ** 3 / EARTH_MU_KM3_S2)


def periods_s(horizon_s: float) -> tuple[float, ...]:
    """Short periods first, where heat moves, then about five minutes each; they add up to the horizon."""
    rest = horizon_s - math.fsum(SHORT_S)
    count = max(1, round(rest / LONG_S))
    return (*SHORT_S, *((rest / count,) * count))


def look_ahead(
    twin: Twin,
    state: TwinState,
    power_w: Float,
    rate: float,
    light: Callable[[Float], Float],
    periods: tuple[float, ...] | None = None,
) -> Outlook:
    """One orbit from now, or the `periods` given (s).

    Args:
        power_w: [S] of the boards in the twin's accounting. rate: orbit seconds in a host second.
        light: illumination [M, S] at M times, given as seconds from now [M].
    """
    p = twin.platform
    periods = periods_s(orbit_s(p)) if periods is None else periods
    first, after_s = _samples(periods)
    lit = np.add.reduceat(light(after_s), first, axis=0) / np.diff([*first, len(after_s)])[:, None]
    base, warming = _thermal(twin, state.nodes_c, lit, periods)
    harvest = solar_power_w(lit, twin.sun_distance_au, p.array_area_m2, p.array_efficiency, p.array_cos_incidence)
    return Outlook(
        np.array(periods), harvest, power_w, rate, base, warming, p.base_load_w, p.battery.capacity_j,
        p.charge_efficiency, p.discharge_efficiency,
    )  # fmt: skip


@lru_cache(maxsize=4)
def _samples(periods: tuple[float, ...]) -> tuple[tuple[int, ...], Float]:
    """Of each period the place of its first sample, and all samples in seconds from now."""
    first: list[int] = []
    after: list[float] = []
    start = 0.0
    for length in periods:
        samples = math.ceil(length / SAMPLE_S)
        first.append(len(after))
        after += [start + length * (i + 0.5) / samples for i in range(samples)]
        start += length
    return tuple(first), np.array(after)


def _thermal(twin: Twin, nodes_c: Float, lit: Float, periods: tuple[float, ...]) -> tuple[Float, Float]:
    """Dies [H, S] with boards that draw nothing, and the warming [H, H] by a watt in each period."""
    p, network = twin.platform, twin.platform.thermal
    about = nodes_c.mean(axis=0)
    stiff = stiffness_w_k(network, about)
    away = nodes_c - about
    pulses = np.zeros((len(periods), len(about)))
    base, warming = [], []
    responses = {length: response_k_w(network, stiff, length) for length in set(periods)}
    for h, length in enumerate(periods):
        heat = np.zeros_like(nodes_c)
        heat[:, 0] = p.environment_w
        if p.has_plate:
            absorbed = orbital_heat_w(
                lit[h], twin.sun_distance_au, p.plate_sun_m2, p.plate_earth_m2, p.plate_infrared_m2, p.altitude_km
            )
            heat[:, 2] = absorbed + p.bus_heat_share * p.base_load_w
        response = responses[length]
        away = away + (net_heat_w(network, about, heat) - away @ stiff) @ response
        drawn = np.zeros_like(pulses)
        drawn[h, 0] = 1.0
        pulses = pulses + (drawn - pulses @ stiff) @ response
        base.append((about + away)[:, 0])
        warming.append(pulses[:, 0])
    return np.array(base), np.array(warming)
