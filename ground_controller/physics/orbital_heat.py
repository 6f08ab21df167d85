"""Heat that a plate absorbs in orbit: sunlight, sunlight from the Earth, and the Earth's own infrared.

    q = alpha A_s G s + alpha A_e rho G F s + eps A_e E_IR F        F = (R / (R + h))^2

with s the visible share of the Sun's disc (SATMO, arXiv 2512.07896; the same form in PASEOS, arXiv 2302.02659, which
however turns only half of the compute power into heat: all of it is heat here). Albedo is taken with s as well,
as if the ground below were lit whenever the satellite is: near the terminator that is too warm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ground_controller.physics.solar import SOLAR_IRRADIANCE_W_M2

Float = NDArray[np.float64]

EARTH_RADIUS_KM = 6_371.0
ALBEDO = 0.3
EARTH_INFRARED_W_M2 = 237.0
"""Mean outgoing long-wave radiation; 234 in PASEOS (0.6 sigma 288^4)."""


def earth_view_factor(altitude_km: float) -> float:
    """Of a plate that faces the Earth: 0.847 at 550 km."""
    return (EARTH_RADIUS_KM / (EARTH_RADIUS_KM + altitude_km)) ** 2


def orbital_heat_w(
    illumination: float | Float,
    sun_distance_au: float,
    sun_absorbing_m2: float,
    earth_absorbing_m2: float,
    earth_infrared_m2: float,
    altitude_km: float,
) -> Float:
    """W [S] into a plate.

    Args:
        illumination: [S] visible share of the Sun's disc, 0 to 1.
        sun_absorbing_m2, earth_absorbing_m2: solar absorptance x area towards the Sun and towards the Earth.
        earth_infrared_m2: infrared emissivity x area towards the Earth.
    """
    view = earth_view_factor(altitude_km)
    sun = SOLAR_IRRADIANCE_W_M2 / sun_distance_au**2 * np.asarray(illumination, dtype=np.float64)
    lit = sun * (sun_absorbing_m2 + earth_absorbing_m2 * ALBEDO * view)
    return np.asarray(lit + earth_infrared_m2 * EARTH_INFRARED_W_M2 * view, dtype=np.float64)
