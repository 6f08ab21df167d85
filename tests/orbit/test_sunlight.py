from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import numpy as np
import pytest
from numpy.typing import NDArray

from ground_controller.orbit.instant import julian_date
from ground_controller.orbit.sunlight import (
    AU_KM,
    beta_deg,
    eclipse_fraction,
    illumination,
    never_dark_beta_deg,
    precession,
    sun,
    sun_position_km,
)


def julian(*when: int) -> float:
    day, fraction = julian_date(datetime(*when, tzinfo=timezone.utc))  # type: ignore[arg-type,misc]
    return day + fraction


def test_sun_of_the_worked_example_of_meeus() -> None:
    """Meeus, Astronomical Algorithms, example 25.a: apparent Sun on 1992 October 13.0 TD."""
    where = sun(np.array([2_448_908.5]))
    assert where.right_ascension_deg[0] == pytest.approx(198.38083, abs=0.01)
    assert where.declination_deg[0] == pytest.approx(-7.78507, abs=0.01)
    assert where.distance_au[0] == pytest.approx(0.99766, abs=1e-4)


@pytest.mark.parametrize(
    ("when", "declination"),
    [((2024, 3, 20, 3, 6), 0.0), ((2024, 6, 20, 20, 51), 23.44), ((2024, 9, 22, 12, 44), 0.0)],
)
def test_sun_stands_where_seasons_begin(when: tuple[int, ...], declination: float) -> None:
    """Equinoxes and solstice of 2024 as almanacs print them."""
    assert sun(np.array([julian(*when)])).declination_deg[0] == pytest.approx(declination, abs=0.01)


def test_distance_at_perihelion_and_aphelion() -> None:
    """2024: 0.98331 AU on January 3, 1.01673 AU on July 5."""
    days = np.array([julian(2024, 1, 3, 0, 39), julian(2024, 7, 5, 5, 6)])
    assert sun(days).distance_au == pytest.approx([0.98331, 1.01673], abs=1e-4)


def test_precession_is_a_rotation_of_fifty_arc_seconds_a_year() -> None:
    turn = precession(np.array([2_451_545.0, 2_451_545.0 + 36_525.0]))
    assert turn[0] == pytest.approx(np.eye(3), abs=1e-12)
    assert turn[1] @ turn[1].T == pytest.approx(np.eye(3), abs=1e-12)
    # right ascension of the equinox of J2000 grows by m = 3.07496 s of time a year (Explanatory Supplement)
    ascension = np.degrees(np.arctan2(turn[1][1, 0], turn[1][0, 0]))
    assert ascension == pytest.approx(100 * 46.124 / 3600.0, abs=1e-3)


def test_sun_of_j2000_trails_the_sun_of_date() -> None:
    day = np.array([julian(2024, 10, 21)])
    of_date, j2000 = sun_position_km(day)[0], sun_position_km(day, "J2000")[0]
    angle = np.degrees(np.arccos(of_date @ j2000 / np.linalg.norm(of_date) / np.linalg.norm(j2000)))
    assert angle == pytest.approx(24.8 * 50.29 / 3600.0, abs=0.005)


def test_illumination_from_full_sun_to_umbra() -> None:
    sun_km = np.array([AU_KM, 0.0, 0.0])
    angles = np.radians(np.linspace(0.0, 180.0, 20_001))
    circle = 6_928.137 * np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=-1)
    lit = illumination(circle, sun_km)
    assert lit[0] == 1.0
    assert lit[-1] == 0.0
    assert (np.diff(lit) <= 1e-12).all()
    penumbra = np.degrees(angles[lit <= 0.0][0] - angles[lit < 1.0][0])
    assert penumbra == pytest.approx(2.0 * np.degrees(np.arcsin(695_700.0 / AU_KM)), abs=0.02)


def test_half_the_disc_is_seen_where_its_centre_touches_the_limb() -> None:
    sun_km = np.array([AU_KM, 0.0, 0.0])
    angle = np.pi - np.arcsin(6_378.137 / 6_928.137)
    place = 6_928.137 * np.array([np.cos(angle), np.sin(angle), 0.0])
    assert illumination(place, sun_km) == pytest.approx(0.5, abs=0.01)


def test_a_small_occulting_body_leaves_a_ring() -> None:
    lit = illumination(np.array([-100_000.0, 0.0, 0.0]), np.array([AU_KM, 0.0, 0.0]), earth_radius_km=100.0)
    apparent = (100.0 / 100_000.0) / (695_700.0 / (AU_KM + 100_000.0))
    assert lit == pytest.approx(1.0 - apparent**2, rel=1e-4)


@pytest.mark.parametrize(
    ("altitude", "fractions", "limit"),
    [
        (400.0, (0.3901, 0.3722, 0.2633), 70.22),
        (550.0, (0.3723, 0.3511, 0.2147), 67.02),
        (630.0, (0.3640, 0.3412, 0.1890), None),
        (780.0, (0.3500, 0.3244, 0.1377), None),
        (1200.0, (0.3184, 0.2857, 0.0), 57.31),
    ],
)
def test_eclipse_fraction_closed_form(altitude: float, fractions: tuple[float, ...], limit: float | None) -> None:
    found = eclipse_fraction(altitude, np.array([0.0, 30.0, 60.0]))
    assert found == pytest.approx(fractions, abs=5e-5)
    if limit is not None:
        assert never_dark_beta_deg(altitude) == pytest.approx(limit, abs=0.005)
        assert eclipse_fraction(altitude, np.array([limit + 0.01])) == 0.0


def test_eclipse_fraction_agrees_with_the_cone() -> None:
    """The mean of the conical model over a circular orbit is the closed form, to the penumbra's asymmetry."""
    angles = np.linspace(0.0, 2.0 * np.pi, 40_000, endpoint=False)
    for beta in (0.0, 30.0, 60.0):
        tilt = np.radians(beta)
        away = np.array([np.cos(tilt), 0.0, np.sin(tilt)])
        ring = 6_928.137 * np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=-1)
        dark = 1.0 - illumination(ring, AU_KM * away).mean()
        assert dark == pytest.approx(float(eclipse_fraction(550.0, np.array(beta))), abs=1.5e-3)


def test_beta_is_the_angle_to_the_orbit_plane() -> None:
    where = sun(np.array([julian(2024, 10, 21)]))
    sun_km = sun_position_km(np.array([julian(2024, 10, 21)]))[0]
    i, node = np.radians(53.05), np.radians(141.5)
    normal = np.array([np.sin(i) * np.sin(node), -np.sin(i) * np.cos(node), np.cos(i)])
    wanted = np.degrees(np.arcsin(normal @ sun_km / np.linalg.norm(sun_km)))
    assert beta_deg(np.array(53.05), np.array(141.5), where)[0] == pytest.approx(wanted, abs=1e-9)


def kepler(position: NDArray[np.float64], velocity: NDArray[np.float64], mu: float, t: float) -> NDArray[np.float64]:
    """Position after t by Lagrange's f and g, elliptic, in the units given."""
    r0, v2 = float(np.linalg.norm(position)), float(velocity @ velocity)
    a = 1.0 / (2.0 / r0 - v2 / mu)
    n = np.sqrt(mu / a**3)
    ec, es = 1.0 - r0 / a, float(position @ velocity) / np.sqrt(mu * a)
    x = n * t
    for _ in range(50):
        x -= (x - ec * np.sin(x) + es * (1.0 - np.cos(x)) - n * t) / (1.0 - ec * np.cos(x) + es * np.sin(x))
    f = 1.0 - a / r0 * (1.0 - np.cos(x))
    g = t + (np.sin(x) - x) / n
    return np.asarray(f * position + g * velocity)


def bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where `holds` turns true between low (false) and high (true)."""
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def test_eclipse_times_of_orekit() -> None:
    """EclipseDetectorTest of Orekit, its Earth and Sun radii: umbra entry and penumbra exit."""
    position = np.array([-6_142.438668, 3_492.467560, -25.76725680])
    velocity = np.array([0.5058479685, 0.9427809215, 7.435922231])
    start = julian(1969, 7, 28, 4)

    def lit(t: float) -> float:
        place = kepler(position, velocity, 398_600.47, t)
        light = sun_position_km(np.array([start + t / 86_400.0]), "J2000")[0]
        return float(illumination(place, light, earth_radius_km=6_400.0, sun_radius_km=696_000.0))

    assert bisect(lambda t: lit(t) <= 0.0, 2_200.0, 2_400.0) == pytest.approx(2_303.1835, abs=0.1)
    assert bisect(lambda t: lit(t) >= 1.0, 4_300.0, 4_500.0) == pytest.approx(4_388.155852, abs=0.1)
