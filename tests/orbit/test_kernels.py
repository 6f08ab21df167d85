"""Compiled and plain loops give the same numbers; the fast recipe keeps to SGP4."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timezone

import numpy as np
import pytest

from ground_controller.compiled import COMPILED
from ground_controller.orbit.constellation import Constellation
from ground_controller.orbit.earth import place_km, sidereal_angle_rad, turned, vertical
from ground_controller.orbit.elements import DEMO_ELEMENTS, read_elements
from ground_controller.orbit.instant import julian_date
from ground_controller.orbit.kernels import contacts, hermite, illumination, link_geometry, neighbours
from ground_controller.orbit.sunlight import sun_position_km
from ground_controller.orbit.visibility import distance_km, lowest_km
from ground_controller.orbit.walker import WalkerShell

EPOCH = datetime(2024, 10, 21, 8, 20, tzinfo=timezone.utc)
SHELL = WalkerShell(550.0, 53.0, 12, 10, phasing=5)
MINUTES = np.arange(0.0, 5_400.0, 60.0)

needs_numba = pytest.mark.skipif(not COMPILED, reason="numba is not installed (extra `fast`), or HIL_COMPILED=0")


def test_fast_recipe_keeps_within_half_a_metre_of_sgp4() -> None:
    shells = Constellation(EPOCH, read_elements(DEMO_ELEMENTS))
    offset = np.arange(0.0, 6_000.0, 10.0)
    fast, exact = shells.states(offset), shells.states(offset, "exact")
    assert np.linalg.norm(fast.position_km - exact.position_km, axis=-1).max() < 5e-4
    assert np.linalg.norm(fast.velocity_km_s - exact.velocity_km_s, axis=-1).max() < 1e-4
    assert (fast.position_km[::6] == exact.position_km[::6]).all()


@needs_numba
def test_hermite_is_equal_to_the_bit() -> None:
    position, velocity = SHELL.states(MINUTES)
    t = np.linspace(0.0, MINUTES[-1], 777)
    for ours, plain in zip(
        hermite(MINUTES, position, velocity, t), hermite(MINUTES, position, velocity, t, plain=True), strict=True
    ):
        assert (ours == plain).all()


@needs_numba
def test_links_and_neighbours_are_equal_to_the_bit() -> None:
    position, velocity = SHELL.states(MINUTES)
    a, b = SHELL.grid()
    for ours, plain in zip(
        link_geometry(position, velocity, a, b), link_geometry(position, velocity, a, b, plain=True), strict=True
    ):
        assert (ours == plain).all()
    for n in (0, 40):
        one = neighbours(position[n], 4_000.0, 80.0)
        two = neighbours(position[n], 4_000.0, 80.0, plain=True)
        assert one[0].size > 300
        for ends, same in zip(one, two, strict=True):
            assert (ends == same).all()


def test_nobody_alone_has_neighbours() -> None:
    for plain in (True, False):
        for count in (0, 1):
            for found in neighbours(np.full((count, 3), 7_000.0), 4_000.0, 80.0, plain):
                assert found.shape == (0,)


@needs_numba
def test_illumination_agrees_and_contacts_are_equal() -> None:
    position, _ = SHELL.states(np.arange(0.0, 5_800.0, 10.0))
    day, fraction = julian_date(EPOCH)
    times = day + fraction + np.arange(0.0, 5_800.0, 10.0) / 86_400.0
    sun = sun_position_km(times)
    one, two = illumination(position, sun), illumination(position, sun, plain=True)
    assert np.abs(one - two).max() < 1e-7  # two arcs of 1e-16 each over the Sun's 0.00465 rad, squared
    assert ((one == 0.0) == (two == 0.0)).all() and ((one == 1.0) == (two == 1.0)).all()
    assert ((one > 0.0) & (one < 1.0)).any()
    fixed = turned(position, sidereal_angle_rad(times)[:, None])
    latitude, longitude = np.array([40.9, -33.0, 89.0]), np.array([-83.9, 18.4, 0.0])
    arguments = (fixed, place_km(latitude, longitude), vertical(latitude, longitude), np.sin(np.radians([10.0, 25, 0])))
    ours, plain = contacts(*arguments), contacts(*arguments, plain=True)
    assert ours.station.size > 50
    for left, right in zip(ours, plain, strict=True):
        assert (left == right).all()


def test_link_geometry_is_what_visibility_says() -> None:
    position, velocity = SHELL.states(MINUTES)
    a, b = np.array([0, 3]), np.array([60, 77])
    found = link_geometry(position, velocity, a, b)
    assert found.distance_km == pytest.approx(distance_km(position[:, a], position[:, b]), rel=1e-12)
    assert found.lowest_km == pytest.approx(lowest_km(position[:, a], position[:, b]), abs=1e-7)
    direction = position[:, b] - position[:, a]
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    later = SHELL.states(MINUTES + 1e-3)[0]
    ahead = later[:, b] - later[:, a]
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    turned_by = np.arcsin(np.linalg.norm(np.cross(direction, ahead), axis=-1)) / 1e-3
    assert found.turn_rad_s == pytest.approx(turned_by, rel=1e-3)


def test_the_plain_path_runs_where_compiling_is_off() -> None:
    """The whole compiler without numba gives the bytes that it gives with it (links only add and multiply)."""
    code = (
        "from ground_controller.orbit.compile import ScheduleConfig, compile_schedule;"
        "from ground_controller.orbit.elements import *;"
        "from hil_config.wire.schedule_file import encode_schedule;"
        "import hashlib, sys;"
        "c = ScheduleConfig('2024-10-21T08:20:00Z', 600.0, 20.0, ('STARLINK-2617', 'STARLINK-3672'),"
        " relay='constellation', isl='nearest', max_range_km=2500.0, survival=0.9);"
        "s = compile_schedule(c, read_elements(DEMO_ELEMENTS), 'x');"
        "print(hashlib.sha256(s.arrays.links.tobytes()).hexdigest(), len(s.arrays.links))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "HIL_COMPILED": value}, capture_output=True, text=True, timeout=120, check=True,
        ).stdout
        for value in ("0", "1")
    ]  # fmt: skip
    assert told[0] == told[1]
    assert int(told[0].split()[1]) > 2


@needs_numba
def test_without_a_place_for_a_cache_it_compiles_all_the_same() -> None:
    """Where numba finds none, as for a user without a home whose package is root's."""
    code = "import ground_controller.orbit.kernels; from ground_controller.compiled import COMPILED; assert COMPILED"
    nowhere = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}  # our modules lie in no archive
    subprocess.run([sys.executable, "-c", code], env=nowhere, check=True, timeout=120.0)
