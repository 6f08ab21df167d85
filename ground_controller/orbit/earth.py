"""The Earth under the orbits: its sidereal turn, its ellipsoid, and places on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]

ELLIPSOID_RADIUS_KM = 6_378.137
ELLIPSOID_FLATTENING = 1.0 / 298.257223563
"""WGS-84."""

ROTATION_RAD_S = 7.292115146706979e-5
"""Sidereal: a turn takes 86,164.0905 s, not a day (Vallado, Fundamentals of Astrodynamics, section 3.5)."""

_J2000 = 2_451_545.0


def sidereal_angle_rad(julian_date_ut1: ArrayLike) -> Float:
    """Greenwich mean sidereal time (IAU 1982), the angle from the mean equinox (x axis of TEME) to Greenwich.

    UTC may stand in for UT1: they differ by under 0.9 s of time, which is 0.4 km at the equator.
    """
    t = (np.asarray(julian_date_ut1, dtype=np.float64) - _J2000) / 36_525.0
    seconds = 67_310.54841 + (876_600.0 * 3_600.0 + 8_640_184.812866) * t + 0.093104 * t * t - 6.2e-6 * t * t * t
    return np.asarray(np.mod(np.radians(seconds / 240.0), 2.0 * np.pi))


def turned(vector: Float, angle_rad: ArrayLike) -> Float:
    """Vectors [..., 3] in axes turned about z by `angle_rad` [...]: inertial to Earth-fixed with the sidereal
    angle, and back with its negative."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    x, y = vector[..., 0], vector[..., 1]
    return np.stack(np.broadcast_arrays(c * x + s * y, c * y - s * x, vector[..., 2]), axis=-1)


def place_km(latitude_deg: ArrayLike, longitude_deg: ArrayLike, height_km: float | Float = 0.0) -> Float:
    """Earth-fixed [..., 3] of geodetic places on WGS-84."""
    latitude, longitude = np.radians(latitude_deg), np.radians(longitude_deg)
    e2 = ELLIPSOID_FLATTENING * (2.0 - ELLIPSOID_FLATTENING)
    normal = ELLIPSOID_RADIUS_KM / np.sqrt(1.0 - e2 * np.sin(latitude) ** 2)
    across = (normal + height_km) * np.cos(latitude)
    up = (normal * (1.0 - e2) + height_km) * np.sin(latitude)
    return np.stack(np.broadcast_arrays(across * np.cos(longitude), across * np.sin(longitude), up), axis=-1)


def vertical(latitude_deg: ArrayLike, longitude_deg: ArrayLike) -> Float:
    """Earth-fixed unit vectors [..., 3] away from the ellipsoid."""
    latitude, longitude = np.radians(latitude_deg), np.radians(longitude_deg)
    across = np.cos(latitude)
    return np.stack(
        np.broadcast_arrays(across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)), axis=-1
    )


def below(fixed_km: Float) -> tuple[Float, Float]:
    """Geodetic latitude and longitude [...] in degrees under Earth-fixed positions [..., 3] (Bowring, 1976)."""
    x, y, z = fixed_km[..., 0], fixed_km[..., 1], fixed_km[..., 2]
    across = np.hypot(x, y)
    a, b = ELLIPSOID_RADIUS_KM, ELLIPSOID_RADIUS_KM * (1.0 - ELLIPSOID_FLATTENING)
    e2, second = 1.0 - (b / a) ** 2, (a / b) ** 2 - 1.0
    slant = np.arctan2(z * a, across * b)
    latitude = np.arctan2(z + second * b * np.sin(slant) ** 3, across - e2 * a * np.cos(slant) ** 3)
    return np.degrees(latitude), np.degrees(np.arctan2(y, x))
