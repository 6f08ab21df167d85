"""Where the Sun is and how much of its disc a satellite sees.

The Sun's direction is the low-precision formula of the Astronomical Almanac (page C5; 0.01 degrees from 1950
to 2050), in the mean equator and equinox of date. SGP4's frame differs from that by nutation only (below
0.005 degrees), so its positions need no precession; positions of J2000 do (0.34 degrees by 2024).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.instant import J2000_JULIAN_DATE

AU_KM = 149_597_870.7
"""Exact, IAU 2012 resolution B2."""

SUN_RADIUS_KM = 695_700.0
"""IAU 2015 resolution B3, nominal."""

OCCULTING_RADIUS_KM = 6_378.137
"""WGS-84 equatorial radius, for the shadow."""

Float = NDArray[np.float64]
Frame = Literal["of date", "J2000"]


class Sun(NamedTuple):
    """Apparent geocentric Sun: right ascension and declination [N] in degrees, distance [N] in AU."""

    right_ascension_deg: Float
    declination_deg: Float
    distance_au: Float


def sun(julian_date_tt: Float) -> Sun:
    """The Sun of date at N instants, Julian dates in terrestrial time (UTC + 69.184 s)."""
    n = np.asarray(julian_date_tt, dtype=np.float64) - J2000_JULIAN_DATE
    mean_longitude = np.mod(280.460 + 0.9856474 * n, 360.0)
    anomaly = np.radians(np.mod(357.528 + 0.9856003 * n, 360.0))
    longitude = np.radians(mean_longitude + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2.0 * anomaly))
    obliquity = np.radians(23.439 - 4.0e-7 * n)
    ascension = np.arctan2(np.cos(obliquity) * np.sin(longitude), np.cos(longitude))
    declination = np.arcsin(np.sin(obliquity) * np.sin(longitude))
    distance = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2.0 * anomaly)
    return Sun(np.mod(np.degrees(ascension), 360.0), np.degrees(declination), distance)


def precession(julian_date_tt: Float) -> Float:
    """[N, 3, 3] rotations that take vectors of J2000 to mean equator and equinox of date (IAU 1976)."""
    t = (np.asarray(julian_date_tt, dtype=np.float64) - J2000_JULIAN_DATE) / 36_525.0
    seconds = np.radians(1.0 / 3_600.0)
    zeta = (2306.2181 + (0.30188 + 0.017998 * t) * t) * t * seconds
    z = (2306.2181 + (1.09468 + 0.018203 * t) * t) * t * seconds
    theta = (2004.3109 - (0.42665 + 0.041833 * t) * t) * t * seconds
    return np.asarray(_about_z(-z) @ _about_y(theta) @ _about_z(-zeta), dtype=np.float64)


def _about_z(angle: Float) -> Float:
    """[..., 3, 3] rotation of the axes about z."""
    c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([np.stack([c, s, o], -1), np.stack([-s, c, o], -1), np.stack([o, o, o + 1.0], -1)], -2)


def _about_y(angle: Float) -> Float:
    """[..., 3, 3] rotation of the axes about y."""
    c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([np.stack([c, o, -s], -1), np.stack([o, o + 1.0, o], -1), np.stack([s, o, c], -1)], -2)


def sun_position_km(julian_date_tt: Float, frame: Frame = "of date") -> Float:
    """[N, 3] geocentric position of the Sun, in the frame of date (use it with TEME) or of J2000 (GCRF)."""
    where = sun(julian_date_tt)
    ra, dec = np.radians(where.right_ascension_deg), np.radians(where.declination_deg)
    unit = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
    position: Float = unit * (where.distance_au * AU_KM)[..., None]
    if frame == "J2000":
        position = np.einsum("...ji,...j->...i", precession(julian_date_tt), position)
    return position


def illumination(
    position_km: Float,
    sun_km: Float,
    earth_radius_km: float = OCCULTING_RADIUS_KM,
    sun_radius_km: float = SUN_RADIUS_KM,
) -> Float:
    """Share of the Sun's disc that is not behind the Earth: 1 in sunlight, 0 in umbra, between in penumbra.

    Overlap of two discs as the satellite sees them (Montenbruck and Gill, Satellite Orbits, section 3.4.2).

    Args:
        position_km: [..., 3] satellite, geocentric.
        sun_km: [..., 3] Sun, same frame, broadcast against it.
    """
    to_sun = sun_km - position_km
    sun_distance = np.linalg.norm(to_sun, axis=-1)
    earth_distance = np.linalg.norm(position_km, axis=-1)
    a = np.arcsin(np.clip(sun_radius_km / sun_distance, 0.0, 1.0))
    b = np.arcsin(np.clip(earth_radius_km / earth_distance, 0.0, 1.0))
    cosine = -np.einsum("...i,...i->...", position_km, to_sun) / (earth_distance * sun_distance)
    c = np.arccos(np.clip(cosine, -1.0, 1.0))
    lit = 1.0 - _overlap(a, b, c) / (np.pi * a * a)
    ring = 1.0 - (b / a) ** 2
    cases = [c >= a + b, c <= b - a, c <= a - b]
    return np.asarray(np.clip(np.select(cases, [np.ones_like(c), np.zeros_like(c), ring], lit), 0.0, 1.0))


def _overlap(a: Float, b: Float, c: Float) -> Float:
    """Area common to discs of radii a and b whose centres are c apart."""
    apart = np.maximum(c, np.finfo(np.float64).tiny)
    x = np.clip((c * c + a * a - b * b) / (2.0 * apart), -a, a)
    y = np.sqrt(np.maximum(a * a - x * x, 0.0))
    far = np.clip((c - x) / b, -1.0, 1.0)
    lens: Float = a * a * np.arccos(x / a) + b * b * np.arccos(far) - c * y
    return lens


def beta_deg(inclination_deg: Float, node_deg: Float, where: Sun) -> Float:
    """Angle between the orbit's plane and the Sun: sin(beta) = cos d sin i sin(node - ra) + sin d cos i."""
    i, dec = np.radians(inclination_deg), np.radians(where.declination_deg)
    hour = np.radians(np.asarray(node_deg) - where.right_ascension_deg)
    sine = np.cos(dec) * np.sin(i) * np.sin(hour) + np.sin(dec) * np.cos(i)
    return np.asarray(np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0))))


def never_dark_beta_deg(altitude_km: float, earth_radius_km: float = OCCULTING_RADIUS_KM) -> float:
    """Smallest |beta| at which a circular orbit has no eclipse (cylindrical shadow)."""
    return float(np.degrees(np.arcsin(earth_radius_km / (earth_radius_km + altitude_km))))


def eclipse_fraction(altitude_km: float, beta: Float, earth_radius_km: float = OCCULTING_RADIUS_KM) -> Float:
    """Share of a circular orbit spent in a cylindrical shadow: acos(sqrt(h^2 + 2Rh) / ((R + h) cos beta))
    / pi."""
    chord = np.sqrt(altitude_km * altitude_km + 2.0 * earth_radius_km * altitude_km)
    cosine = (earth_radius_km + altitude_km) * np.cos(np.radians(beta))
    ratio = np.divide(chord, cosine, out=np.ones_like(np.asarray(cosine)), where=np.asarray(cosine) > chord)
    return np.asarray(np.arccos(np.clip(ratio, -1.0, 1.0)) / np.pi)
