from __future__ import annotations

from datetime import datetime, timezone
from itertools import permutations

import numpy as np
import pytest

from ground_controller.orbit.compile import ScheduleConfig, compile_schedule
from ground_controller.orbit.earth import ROTATION_RAD_S, below, place_km, sidereal_angle_rad, turned
from ground_controller.orbit.elements import parse_elements
from ground_controller.orbit.ground import (
    Choice,
    GroundStation,
    Look,
    Rule,
    crossings,
    doppler_hz,
    in_view,
    look,
)
from ground_controller.orbit.instant import julian_date
from ground_controller.orbit.propagate import positions
from ground_controller.orbit.visibility import slant_km
from ground_controller.orbit.walker import WalkerShell
from hil_config.errors import ConfigError
from hil_config.units import SPEED_OF_LIGHT_M_S
from hil_config.wire.schedule_file import encode_schedule

# The example of skyfield's documentation, earth-satellites: the ISS over Bluffton, Ohio
ISS = (
    "ISS (ZARYA)\n"
    "1 25544U 98067A   14020.93268519  .00009878  00000-0  18200-3 0  5082\n"
    "2 25544  51.6498 109.4756 0003572  55.9686 274.8005 15.49815350868473\n"
)
BLUFFTON = GroundStation("Bluffton", 40.8939, -83.8917, min_elevation_deg=30.0)
DAY = datetime(2014, 1, 23, tzinfo=timezone.utc)


def seconds(hour: int, minute: int, second: int) -> float:
    return 3_600.0 * hour + 60.0 * minute + second


def sky(station: GroundStation, t: np.ndarray) -> Look:
    day, fraction = julian_date(DAY)
    states = positions(parse_elements(ISS, "x"), DAY, t)
    return look(station, *states, sidereal_angle_rad(day + fraction + t / 86_400.0))


def test_passes_of_the_space_station_over_bluffton() -> None:
    def above(t: float) -> float:
        return float(sky(BLUFFTON, np.array([t])).elevation_deg[0, 0]) - 30.0

    found = crossings(above, np.arange(0.0, 86_401.0, 30.0))
    wanted = [seconds(6, 25, 37), seconds(6, 28, 19), seconds(12, 54, 56), seconds(12, 57, 58)]
    assert [t for t, _ in found] == pytest.approx(wanted, abs=1.0)
    assert [rises for _, rises in found] == [True, False, True, False]


def test_range_rate_is_the_change_of_range_and_gives_the_doppler() -> None:
    t = np.arange(seconds(12, 50, 0), seconds(13, 2, 0), 1.0)
    seen = sky(BLUFFTON, t)
    slope = (seen.range_km[2:] - seen.range_km[:-2]) / 2.0
    assert seen.range_rate_km_s[1:-1] == pytest.approx(slope, abs=2e-3)
    assert np.abs(seen.range_rate_km_s).max() < 7.5  # 25 us of delay a second
    shift = doppler_hz(seen.range_rate_km_s[:, 0], 437e6)
    assert shift[0] > 0.0 > shift[-1]
    assert shift[0] == pytest.approx(-seen.range_rate_km_s[0, 0] * 1e3 * 437e6 / SPEED_OF_LIGHT_M_S)
    nearest = int(np.argmin(seen.range_km))
    assert abs(shift[nearest]) < 100.0


def test_the_earth_turns_sidereally() -> None:
    day = 2_456_680.5
    turn = np.mod(sidereal_angle_rad(day + 1.0) - sidereal_angle_rad(day), 2.0 * np.pi)
    assert turn == pytest.approx(86_400.0 * ROTATION_RAD_S - 2.0 * np.pi, abs=1e-6)  # the equinox moves a little
    assert np.degrees(turn) == pytest.approx(0.98565, abs=1e-5)
    # Vallado, example 3-5: 1992 August 20, 12:14 UT1 -> 152.578788 degrees
    instant, part = julian_date(datetime(1992, 8, 20, 12, 14, tzinfo=timezone.utc))
    assert np.degrees(sidereal_angle_rad(instant + part)) == pytest.approx(152.578788, abs=1e-5)


def test_places_go_there_and_back() -> None:
    latitude, longitude = np.array([-90.0, -33.3, 0.0, 51.5, 89.9]), np.array([0.0, 151.2, -120.0, 0.1, 179.9])
    back = below(place_km(latitude, longitude, 550.0))
    assert back[0] == pytest.approx(latitude, abs=1e-6)
    assert back[1][1:] == pytest.approx(longitude[1:], abs=1e-9)
    assert place_km(0.0, 0.0) == pytest.approx([6_378.137, 0.0, 0.0])
    vector = np.array([1.0, 2.0, 3.0])
    assert turned(turned(vector, 0.7), -0.7) == pytest.approx(vector)


def test_largest_delays_of_tr_38_821() -> None:
    """3GPP TR 38.821, table 5.3.4.1-1, by its geometry: Earth of 6,371 km, 10 degrees, one or two such paths."""
    for altitude, regenerative, transparent in (
        (600.0, 12.89, 25.77),
        (1_200.0, 20.89, 41.77),
        (35_786.0, 270.73, 541.46),
    ):
        trip_ms = 2.0 * slant_km(altitude, 10.0, 6_371.0) * 1e6 / SPEED_OF_LIGHT_M_S
        assert trip_ms == pytest.approx(regenerative, abs=0.006)
        assert 2.0 * trip_ms == pytest.approx(transparent, abs=0.011)


def test_zenith_is_straight_up_and_azimuth_turns_east() -> None:
    station = GroundStation("here", 10.0, 20.0)
    over = place_km(10.0, 20.0, 500.0)
    east, north = place_km(10.0, 21.0, 500.0), place_km(11.0, 20.0, 500.0)
    seen = look(station, np.stack([over, east, north])[None], np.zeros((1, 3, 3)), np.zeros(1))
    assert seen.elevation_deg[0, 0] == pytest.approx(90.0, abs=1e-6)
    assert seen.range_km[0, 0] == pytest.approx(500.0)
    assert np.cos(np.radians(seen.azimuth_deg[0, 1:] - [90.0, 0.0])) == pytest.approx([1.0, 1.0], abs=1e-4)


def test_a_mask_hides_what_is_behind_the_hill() -> None:
    station = GroundStation("valley", 0.0, 0.0, min_elevation_deg=5.0, mask=((0.0, 30.0), (90.0, 0.0), (270.0, 0.0)))
    assert station.least_elevation_deg(np.array([0.0, 45.0, 180.0, 315.0, 359.99])) == pytest.approx(
        [30.0, 15.0, 5.0, 15.0, 30.0], abs=0.01
    )
    seen = Look(np.array([0.0, 180.0]), np.array([20.0, 20.0]), np.array([900.0, 900.0]), np.zeros(2))
    assert in_view(station, seen).tolist() == [False, True]
    assert not in_view(station, seen, 800.0).any()


def choose(rule: Rule, visible: np.ndarray, range_km: np.ndarray) -> np.ndarray:
    choice = Choice(rule)
    choice.foresee(visible)
    return choice.links(visible, range_km)


def test_selection_rules() -> None:
    visible = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=bool)
    distance = np.array([[5.0, 9, 1], [4, 3, 1], [1, 2, 3], [1, 3, 2], [1, 1, 2], [1, 1, 1]])
    nearest = choose("nearest", visible, distance)
    assert [np.nonzero(row)[0].tolist() for row in nearest] == [[0], [1], [1], [2], [2], []]
    longest = choose("longest_visible", visible, distance)
    assert [np.nonzero(row)[0].tolist() for row in longest] == [[1], [1], [1], [1], [2], []]
    assert (choose("all", visible, distance) == visible).all()


def test_each_station_has_its_own_sky_in_whatever_order_they_stand() -> None:
    shell = WalkerShell(550.0, 53.0, 12, 12, phasing=5, name="w")
    stations = (
        GroundStation("Zurich", 47.4, 8.5), GroundStation("Sydney", -33.9, 151.2), GroundStation("Quito", -0.2, -78.5),
    )  # fmt: skip

    def routes(*chosen: GroundStation) -> dict[str, list[tuple[str, ...]]]:
        config = ScheduleConfig(
            "2024-10-21T00:00:00Z", 120.0, 60.0, ("w-P00S00", *(one.name for one in chosen)), relay="constellation",
            shells=(shell,), stations=stations,
        )  # fmt: skip
        found = compile_schedule(config, (), "x")
        return {one.name: [found.route("w-P00S00", one.name, t) for t in (0.0, 60.0, 120.0)] for one in chosen}

    alone = {name: found for one in stations for name, found in routes(one).items()}
    assert all(route for found in alone.values() for route in found)
    for order in permutations(stations):
        assert routes(*order) == alone


def test_the_longest_visible_stays_whatever_pieces_time_is_cut_into() -> None:
    rng = np.random.default_rng(4)
    visible = np.repeat(rng.random((40, 6)) < 0.3, rng.integers(1, 9, 40), axis=0)
    distance = np.ones(visible.shape)
    whole = choose("longest_visible", visible, distance)
    assert (whole.sum(axis=1) == visible.any(axis=1)).all() and (whole <= visible).all()
    for size in (1, 7, 50):
        pieces = [slice(first, first + size) for first in range(0, visible.shape[0], size)]
        choice = Choice("longest_visible")
        for piece in reversed(pieces):
            choice.foresee(visible[piece])
        found = [choice.links(visible[piece], distance[piece]) for piece in pieces]
        assert (np.concatenate(found) == whole).all()


def test_a_schedule_that_is_compiled_in_pieces_keeps_the_longest_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = WalkerShell(550.0, 53.0, 24, 22, phasing=5, name="w")
    config = ScheduleConfig(
        "2024-10-21T00:00:00Z", 1_800.0, 10.0, ("w-P00S00", "Zurich"), relay="constellation", isl="grid",
        shells=(shell,), stations=(GroundStation("Zurich", 47.4, 8.5),), ground_rule="longest_visible",
    )  # fmt: skip
    whole = encode_schedule(compile_schedule(config, (), "x"))
    monkeypatch.setattr("ground_controller.orbit.compile.CHUNK_BYTES", 48 * shell.count * 30)
    assert encode_schedule(compile_schedule(config, (), "x")) == whole


def test_longest_visible_changes_hands_less_often_than_nearest() -> None:
    t = np.arange(0.0, 3_600.0, 10.0)
    position, velocity = WalkerShell(550.0, 53.0, 24, 22, phasing=5).states(t)
    station = GroundStation("Zurich", 47.4, 8.5, 400.0, 25.0)
    seen = look(station, position, velocity, sidereal_angle_rad(2_460_604.5 + t / 86_400.0))
    visible = in_view(station, seen)
    hands = {}
    rules: tuple[Rule, ...] = ("nearest", "longest_visible")
    for rule in rules:
        chosen = choose(rule, visible, seen.range_km)
        assert (chosen.sum(axis=1) == visible.any(axis=1)).all() and (chosen <= visible).all()
        hands[rule] = int((chosen[1:] & ~chosen[:-1]).sum())
    assert hands["longest_visible"] < hands["nearest"]


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"latitude_deg": 91.0}, "latitude_deg is 91"),
        ({"min_elevation_deg": 95.0}, "min_elevation_deg is 95"),
        ({"mask": ((10.0, 1.0), (5.0, 1.0))}, "mask azimuths"),
        ({"mask": ((10.0, 100.0),)}, "mask elevation"),
    ],
)
def test_stations_that_cannot_be(values: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        GroundStation(**{"name": "x", "latitude_deg": 0.0, "longitude_deg": 0.0, **values})  # type: ignore[arg-type]
