from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from ground_controller.orbit.elements import DEMO_ELEMENTS, Elements, checksum, parse_elements, read_elements
from ground_controller.orbit.propagate import positions
from hil_config.errors import DataFileError

LINE1 = "1 25544U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  2927"
LINE2 = "2 25544  51.6416 247.4627 0006703 130.5360 325.0288 15.72125391563537"
START = datetime(2024, 10, 21, 8, 20, tzinfo=timezone.utc)


def test_positions_and_velocities_of_the_shell() -> None:
    elements = read_elements(DEMO_ELEMENTS)
    offset = np.arange(0.0, 601.0, 1.0)
    place, speed = positions(elements, START, offset)
    assert place.shape == speed.shape == (601, len(elements), 3)
    height = np.linalg.norm(place, axis=-1) - 6_378.135
    assert (height > 530.0).all() and (height < 575.0).all()
    slope = (place[2:] - place[:-2]) / 2.0
    assert np.abs(slope - speed[1:-1]).max() < 5e-5  # the model leaves small terms out of its velocity


def test_an_offset_is_the_same_as_a_later_start() -> None:
    elements = read_elements(DEMO_ELEMENTS)
    ahead = positions(elements, START, np.array([0.0, 300.0])).position_km[1]
    later = positions(elements, START + timedelta(seconds=300), np.array([0.0])).position_km[0]
    assert ahead == pytest.approx(later, abs=1e-6)


def test_sgp4_errors_are_told() -> None:
    line = LINE2[:26] + "9999999" + LINE2[33:]
    (broken,) = parse_elements(f"{LINE1}\n{line[:68]}{checksum(line)}\n", "a")
    named = Elements("LOST", broken.line1, broken.line2)
    with pytest.raises(DataFileError, match=r"elements of 'LOST'.*SGP4 error") as caught:
        positions([named], named.epoch, np.array([0.0, 60.0]))
    assert "closer to the epoch" in caught.value.hint
