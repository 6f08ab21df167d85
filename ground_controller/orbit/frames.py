"""From the inertial frames that ephemerides come in to the one that SGP4 answers in (TEME of date).

Precession of 1976, nutation of 1980 by its thirteen largest terms (Lieske et al. 1977; Wahr 1981; Seidelmann 1982,
table 1), the mean equinox kept on the true equator: Vallado et al., AIAA 2006-6753, appendix C. What is left out is
below 0.02 arc seconds, 0.7 m at 7,000 km; between GCRF and J2000 lie 0.02 more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.instant import J2000_JULIAN_DATE
from ground_controller.orbit.sunlight import precession

Float = NDArray[np.float64]

# multiples of l, l', F, D, node; in 0.0001 arc seconds: of longitude and of obliquity, with their change a century
_NUTATION = np.array([
    (0, 0, 0, 0, 1, -171996.0, -174.2, 92025.0, 8.9), (0, 0, 2, -2, 2, -13187.0, -1.6, 5736.0, -3.1),
    (0, 0, 2, 0, 2, -2274.0, -0.2, 977.0, -0.5), (0, 0, 0, 0, 2, 2062.0, 0.2, -895.0, 0.5),
    (0, 1, 0, 0, 0, 1426.0, -3.4, 54.0, -0.1), (1, 0, 0, 0, 0, 712.0, 0.1, -7.0, 0.0),
    (0, 1, 2, -2, 2, -517.0, 1.2, 224.0, -0.6), (0, 0, 2, 0, 1, -386.0, -0.4, 200.0, 0.0),
    (1, 0, 2, 0, 2, -301.0, 0.0, 129.0, -0.1), (0, -1, 2, -2, 2, 217.0, -0.5, -95.0, 0.3),
    (1, 0, 0, -2, 0, -158.0, 0.0, -1.0, 0.0), (0, 0, 2, -2, 1, 129.0, 0.1, -70.0, 0.0),
    (-1, 0, 2, 0, 2, 123.0, 0.0, -53.0, 0.0),
])  # fmt: skip


def nutation(julian_date_tt: Float) -> tuple[Float, Float, Float]:
    """[N] each, in radians: nutation in longitude and in obliquity, and the mean obliquity."""
    t = (np.asarray(julian_date_tt, dtype=np.float64) - J2000_JULIAN_DATE) / 36_525.0
    turn, second = 1_296_000.0, np.radians(1.0 / 3_600.0)
    arguments = np.stack([
        485_866.733 + (1325 * turn + 715_922.633 + (31.310 + 0.064 * t) * t) * t,
        1_287_099.804 + (99 * turn + 1_292_581.224 - (0.577 + 0.012 * t) * t) * t,
        335_778.877 + (1342 * turn + 295_263.137 - (13.257 - 0.011 * t) * t) * t,
        1_072_261.307 + (1236 * turn + 1_105_601.328 - (6.891 - 0.019 * t) * t) * t,
        450_160.280 - (5 * turn + 482_890.539 - (7.455 + 0.008 * t) * t) * t,
    ])  # fmt: skip
    angle = np.tensordot(_NUTATION[:, :5], np.mod(arguments, turn) * second, axes=1)
    scale = 1e-4 * second
    century = t[None] if t.ndim else t
    longitude = ((_NUTATION[:, 5, None] + _NUTATION[:, 6, None] * century) * np.sin(angle)).sum(axis=0) * scale
    obliquity = ((_NUTATION[:, 7, None] + _NUTATION[:, 8, None] * century) * np.cos(angle)).sum(axis=0) * scale
    mean = (84_381.448 - (46.8150 + (0.00059 - 0.001813 * t) * t) * t) * second
    return longitude, obliquity, mean


def j2000_to_teme(julian_date_tt: Float) -> Float:
    """[N, 3, 3] rotations that take vectors of J2000 (EME2000; GCRF and ICRF within 0.02 arc seconds) to TEME.

    Args:
        julian_date_tt: [N] Julian dates in terrestrial time.
    """
    dates = np.atleast_1d(np.asarray(julian_date_tt, dtype=np.float64))
    longitude, obliquity, mean = nutation(dates)
    nutated = _about_x(-(mean + obliquity)) @ _about_z(-longitude) @ _about_x(mean)
    equinox = _about_z(longitude * np.cos(mean))
    return np.asarray(equinox @ nutated @ precession(dates))


def _about_x(angle: Float) -> Float:
    """[N, 3, 3] rotation of the axes about x."""
    c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([np.stack([o + 1.0, o, o], -1), np.stack([o, c, s], -1), np.stack([o, -s, c], -1)], -2)


def _about_z(angle: Float) -> Float:
    """[N, 3, 3] rotation of the axes about z."""
    c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([np.stack([c, s, o], -1), np.stack([-s, c, o], -1), np.stack([o, o, o + 1.0], -1)], -2)
