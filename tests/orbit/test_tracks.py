"""Satellites that are described by states take part like those of elements."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from ground_controller.formats.oem import OemTrack, parse_oem
from ground_controller.orbit.compile import ScheduleConfig, compile_factual, compile_schedule
from ground_controller.orbit.elements import DEMO_ELEMENTS, read_elements
from ground_controller.orbit.faults import ScheduleFault
from ground_controller.orbit.propagate import positions
from ground_controller.orbit.recompile import compile_again
from hil_config.errors import DataFileError
from hil_config.wire.schedule_file import encode_schedule, schedule_hash

NAMES = ("STARLINK-2617", "STARLINK-1364", "STARLINK-1412")
ELEMENTS = read_elements(DEMO_ELEMENTS, NAMES)
EPOCH = datetime(2024, 10, 21, 8, 20, tzinfo=timezone.utc)
CONFIG = ScheduleConfig("2024-10-21T08:20:00Z", 600.0, 5.0, NAMES, max_range_km=4_500.0)
TIME = np.arange(0.0, 601.0, 5.0)


def track(index: int, last_s: float = 660.0) -> OemTrack:
    """The satellite's SGP4 states every 30 s from a minute before, as an ephemeris message."""
    t = np.arange(-60.0, last_s + 1.0, 30.0)
    states = positions([ELEMENTS[index]], EPOCH, t)
    stamps = [f"{EPOCH + timedelta(seconds=s):%Y-%m-%dT%H:%M:%S.000}" for s in t.tolist()]
    rows = [
        f"{stamp} " + " ".join(f"{v:.9f}" for v in (*states.position_km[n, 0], *states.velocity_km_s[n, 0]))
        for n, stamp in enumerate(stamps)
    ]
    text = "\n".join(
        [
            "CCSDS_OEM_VERS = 2.0", "CREATION_DATE = 2024-10-21T00:00:00", "ORIGINATOR = TEST", "META_START",
            f"OBJECT_NAME = {NAMES[index]}", "OBJECT_ID = 2024-001A", "CENTER_NAME = EARTH", "REF_FRAME = TEME",
            "TIME_SYSTEM = UTC", f"START_TIME = {stamps[0]}", f"STOP_TIME = {stamps[-1]}",
            "INTERPOLATION = HERMITE", "INTERPOLATION_DEGREE = 7", "META_STOP", *rows, "",
        ]
    )  # fmt: skip
    (found,) = parse_oem(text, "x.oem")
    return found


def test_a_track_gives_the_links_that_its_elements_give() -> None:
    wanted = compile_schedule(CONFIG, ELEMENTS, "x")
    found = compile_schedule(CONFIG, ELEMENTS[:2], "x", [track(2)])
    one, two = wanted.sample(TIME), found.sample(TIME)
    assert (one.up == two.up).all()
    assert two.delay_s == pytest.approx(one.delay_s, abs=3e-6)
    assert found.illumination(NAMES[2], 410.0) == pytest.approx(wanted.illumination(NAMES[2], 410.0), abs=1e-3)
    assert found.position_km(TIME) == pytest.approx(wanted.position_km(TIME), abs=2e-3)


def test_tracks_alone_and_with_an_ephemeris_error() -> None:
    tracks = [track(n) for n in range(3)]
    fault = ScheduleFault("ephemeris_error", NAMES[1], value=10.0)
    config = replace(CONFIG, faults=(fault,))
    predicted = compile_schedule(config, (), "x", tracks)
    factual = compile_factual(config, (), "x", predicted, schedule_hash(encode_schedule(predicted)), tracks)
    apart = np.linalg.norm(factual.position_km(TIME) - predicted.position_km(TIME), axis=-1)
    assert apart[:, 1] == pytest.approx(np.full(TIME.size, 75.8), rel=0.01)
    assert apart[:, [0, 2]].max() == 0.0


def test_an_ephemeris_that_ends_too_early_is_refused() -> None:
    with pytest.raises(DataFileError, match="says nothing of"):
        compile_schedule(CONFIG, ELEMENTS[:2], "x", [track(2, last_s=500.0)])
    compile_schedule(CONFIG, ELEMENTS[:2], "x", [track(2, last_s=600.0)])


def test_a_schedule_of_tracks_does_not_claim_to_hold_them() -> None:
    assert compile_again(compile_schedule(CONFIG, ELEMENTS[:2], "x", [track(2)])) is None
