"""Who sees whom: the straight path between two satellites, its length and its delay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hil_config.units import SPEED_OF_LIGHT_M_S

EARTH_RADIUS_KM = 6_378.135
"""WGS-72 equatorial radius, the one of SGP4."""

GRAZING_KM = 80.0
"""A path that dips below this height is blocked: the limit that gives the published 5,016.59 km and
5,442.958 km as the longest links of shells at 550 and 630 km (Hypatia, IMC 2020)."""

_M_PER_KM = 1_000.0

Float = NDArray[np.float64]


def distance_km(a_km: Float, b_km: Float) -> Float:
    """Length of the straight path; a, b: [..., 3] in one frame; answer [...]."""
    return np.asarray(np.linalg.norm(b_km - a_km, axis=-1), dtype=np.float64)


def delay_s(distance: Float) -> Float:
    """One-way light time of a path in km, in vacuum."""
    return distance * _M_PER_KM / SPEED_OF_LIGHT_M_S


def lowest_km(a_km: Float, b_km: Float) -> Float:
    """Height above the sphere of `EARTH_RADIUS_KM` of the lowest point of each segment; [..., 3] -> [...]."""
    along = b_km - a_km
    length2 = np.einsum("...i,...i->...", along, along)
    towards = -np.einsum("...i,...i->...", a_km, along)
    fraction = np.clip(np.divide(towards, length2, out=np.zeros_like(length2), where=length2 > 0.0), 0.0, 1.0)
    nearest = a_km + fraction[..., None] * along
    return np.asarray(np.linalg.norm(nearest, axis=-1) - EARTH_RADIUS_KM, dtype=np.float64)


def visible(a_km: Float, b_km: Float, grazing_km: float, max_range_km: float) -> NDArray[np.bool_]:
    """True where the segment stays at or above `grazing_km` and is at most `max_range_km` long."""
    clear = lowest_km(a_km, b_km) >= grazing_km
    return np.asarray(clear & (distance_km(a_km, b_km) <= max_range_km), dtype=np.bool_)


def longest_link_km(altitude_km: float, grazing_km: float = GRAZING_KM) -> float:
    """Longest clear path between two satellites of one altitude on a circular shell."""
    outer, inner = EARTH_RADIUS_KM + altitude_km, EARTH_RADIUS_KM + grazing_km
    return 2.0 * float(np.sqrt(outer * outer - inner * inner))


def slant_km(altitude_km: float, elevation_deg: float, radius_km: float = EARTH_RADIUS_KM) -> float:
    """Distance from a place on the sphere to a satellite at that elevation: the longest of its links there."""
    sine = float(np.sin(np.radians(elevation_deg)))
    return float(np.sqrt((radius_km * sine) ** 2 + altitude_km * (altitude_km + 2.0 * radius_km)) - radius_km * sine)
