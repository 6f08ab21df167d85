"""Power of a solar array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

SOLAR_IRRADIANCE_W_M2 = 1_361.0
"""Total solar irradiance at 1 AU (Kopp and Lean, 2011)."""


def solar_power_w(
    illumination: float | Float,
    sun_distance_au: float | Float,
    area_m2: float | Float,
    efficiency: float | Float,
    cos_incidence: float | Float = 1.0,
) -> Float:
    """1361 W/m2 (AU/d)^2 x illumination x area x efficiency x cos(incidence), each a number or [S].

    Args:
        illumination: visible share of the Sun's disc, 0 to 1.
        efficiency: of cells, packing and degradation together.
        cos_incidence: cosine between array normal and Sun; below 0 (Sun behind the array) counts as 0.
    """
    flux = SOLAR_IRRADIANCE_W_M2 / np.square(np.asarray(sun_distance_au, dtype=np.float64))
    facing = np.maximum(cos_incidence, 0.0)
    return np.asarray(flux * illumination * area_m2 * efficiency * facing, dtype=np.float64)
