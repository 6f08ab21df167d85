"""Over random orbits, Skyfield and Astropy (ERFA) say the same of where satellites and the Sun stand."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from numpy.typing import NDArray

from ground_controller.orbit.earth import below, sidereal_angle_rad, turned
from ground_controller.orbit.elements import Elements, checksum
from ground_controller.orbit.ground import GroundStation, look
from ground_controller.orbit.instant import TERRESTRIAL_MINUS_UTC_S, julian_date
from ground_controller.orbit.propagate import positions
from ground_controller.orbit.sunlight import illumination, sun_position_km

skyfield_api = pytest.importorskip("skyfield.api", reason="skyfield is not installed (extra dev)")
astropy_time = pytest.importorskip("astropy.time", reason="astropy is not installed (extra dev)")

START = datetime(2024, 10, 21, tzinfo=timezone.utc)
OFFSETS = np.array([0.0, 1_234.5, 4_321.0, 40_000.0])
STATION = GroundStation("Zurich", 47.4, 8.5, 400.0)


def random_elements(seed: int, count: int) -> list[Elements]:
    """Low circular to highly elliptic orbits, all above 300 km."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        eccentricity = float(rng.choice([0.0001, 0.001, 0.02, 0.3]))
        perigee = 6_378.135 + float(rng.uniform(400.0, 1_500.0))
        motion = 86_400.0 / (2 * np.pi) * np.sqrt(398_600.8 / (perigee / (1 - eccentricity)) ** 3)
        tilt, node, argument, anomaly = (float(rng.uniform(0.0, most)) for most in (180.0, 360.0, 360.0, 360.0))
        line1 = f"1 {10_000 + number:05d}U 24001A   24295.00000000  .00000100  00000-0  10000-4 0  999"
        line2 = (
            f"2 {10_000 + number:05d} {tilt:8.4f} {node:8.4f} {round(eccentricity * 1e7):07d} {argument:8.4f}"
            f" {anomaly:8.4f} {motion:11.8f}    1"
        )
        found.append(Elements(f"S{number}", line1 + str(checksum(line1 + "0")), line2 + str(checksum(line2 + "0"))))
    return found


ELEMENTS = random_elements(11, 25)


def julian(offset: NDArray[np.float64]) -> NDArray[np.float64]:
    day, fraction = julian_date(START)
    return np.asarray(day + fraction + offset / 86_400.0)


def angle_deg(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    cross = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.asarray(np.degrees(np.arctan2(cross, np.einsum("...i,...i->...", a, b))))


def test_skyfield_sees_satellites_where_we_do() -> None:
    scale = skyfield_api.load.timescale(builtin=True)
    times = scale.from_datetimes([START + timedelta(seconds=float(t)) for t in OFFSETS])
    place = skyfield_api.wgs84.latlon(STATION.latitude_deg, STATION.longitude_deg, STATION.height_m)
    states = positions(ELEMENTS, START, OFFSETS)
    ours = look(STATION, *states, sidereal_angle_rad(julian(OFFSETS)))
    latitude, longitude = below(turned(states.position_km, sidereal_angle_rad(julian(OFFSETS))[:, None]))
    for i, one in enumerate(ELEMENTS):
        satellite = skyfield_api.EarthSatellite(one.line1, one.line2, one.name, scale)
        altitude, _, distance, *_, rate = (satellite - place).at(times).frame_latlon_and_rates(place)
        assert ours.range_km[:, i] == pytest.approx(distance.km, abs=0.5)
        assert ours.elevation_deg[:, i] == pytest.approx(altitude.degrees, abs=0.02)
        assert ours.range_rate_km_s[:, i] == pytest.approx(rate.km_per_s, abs=2e-3)
        under = skyfield_api.wgs84.subpoint_of(satellite.at(times))
        assert latitude[:, i] == pytest.approx(under.latitude.degrees, abs=0.01)
        shift = (longitude[:, i] - under.longitude.degrees + 180.0) % 360.0 - 180.0
        assert np.abs(shift * np.cos(np.radians(latitude[:, i]))).max() < 0.01


def test_astropy_turns_the_earth_as_we_do() -> None:
    from astropy import units
    from astropy.coordinates import ITRS, TEME, CartesianRepresentation
    from astropy.utils import iers

    with iers.conf.set_temp("auto_download", False):
        place = positions(ELEMENTS, START, OFFSETS).position_km
        ours = turned(place, sidereal_angle_rad(julian(OFFSETS))[:, None])
        for n, offset in enumerate(OFFSETS.tolist()):
            when = astropy_time.Time(START + timedelta(seconds=offset), scale="utc")
            there = TEME(CartesianRepresentation(place[n].T * units.km), obstime=when).transform_to(ITRS(obstime=when))
            theirs = there.cartesian.xyz.to_value(units.km).T
            # UT1 - UTC and polar motion, which we leave out: below 0.9 s of turning at most
            assert np.linalg.norm(ours[n] - theirs, axis=-1).max() < 0.5


def test_astropy_sees_the_sun_and_the_eclipses_where_we_do() -> None:
    from astropy import units
    from astropy.coordinates import TEME, get_sun
    from astropy.utils import iers

    rng = np.random.default_rng(5)
    instants = [datetime(2000, 1, 1, tzinfo=timezone.utc) + timedelta(days=float(d)) for d in rng.uniform(0, 8_900, 40)]
    days = np.array([sum(julian_date(when)) for when in instants]) + TERRESTRIAL_MINUS_UTC_S / 86_400.0
    ours = sun_position_km(days)
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
        when = astropy_time.Time(instants, scale="utc")
        theirs = get_sun(when).transform_to(TEME(obstime=when)).cartesian.xyz.to_value(units.km).T
    assert angle_deg(ours, theirs).max() < 0.02
    assert np.linalg.norm(ours, axis=-1) == pytest.approx(np.linalg.norm(theirs, axis=-1), rel=2e-4)
    direction = rng.normal(size=(40, 5_000, 3))
    place = 6_928.0 * direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    lit, wanted = (illumination(place, sun[:, None, :]) for sun in (ours, theirs))
    # 0.02 degrees of 360 is 0.3 s of an orbit: few points lie so close to the shadow's rim
    assert (np.abs(lit - wanted) > 0.05).mean() < 5e-4
    assert lit.mean() == pytest.approx(wanted.mean(), abs=1e-4)
