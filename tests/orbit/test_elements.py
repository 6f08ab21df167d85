from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from ground_controller.orbit.elements import DEMO_ELEMENTS, checksum, parse_elements, read_elements
from hil_config.errors import DataFileError

# ISS, 2008 September 20: the worked example of the format's public description
NAME = "ISS (ZARYA)"
LINE1 = "1 25544U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  2927"
LINE2 = "2 25544  51.6416 247.4627 0006703 130.5360 325.0288 15.72125391563537"


def resum(line: str) -> str:
    return line[:68] + str(checksum(line))


def test_two_and_three_line_sets() -> None:
    assert parse_elements(f"{NAME}\n{LINE1}\n{LINE2}\n", "a")[0].name == NAME
    assert parse_elements(f"0 {NAME}  \r\n{LINE1}\r\n{LINE2}", "a")[0].name == NAME
    assert parse_elements(f"\n{LINE1}\n{LINE2}\n\n{LINE1}\n{LINE2}\n", "a")[1].name == "25544"


def test_epoch() -> None:
    (iss,) = parse_elements(f"{LINE1}\n{LINE2}\n", "a")
    assert abs((iss.epoch - datetime(2008, 9, 20, 12, 25, 40, tzinfo=timezone.utc)).total_seconds()) < 1.0
    old = resum(LINE1[:18] + "69" + LINE1[20:])
    assert parse_elements(f"{old}\n{LINE2}\n", "a")[0].epoch.year == 1969


def test_shipped_set_is_whole() -> None:
    found = read_elements(DEMO_ELEMENTS)
    assert len(found) == 20
    assert all(one.epoch.date().isoformat() == "2024-10-21" for one in found)


CASES = {
    "cut line 1": (f"{LINE1[:60]}\n{LINE2}\n", ["x.tle:1", "columns 1-69", "has 60 characters", "wanted 69"]),
    "cut line 2": (f"{LINE1}\n{LINE2[:-1]}\n", ["x.tle:2", "columns 1-69", "has 68 characters"]),
    "long line": (f"{LINE1}0\n{LINE2}\n", ["x.tle:1", "has 70 characters"]),
    "checksum": (f"{LINE1[:68]}8\n{LINE2}\n", ["x.tle:1", "columns 69-69", "checksum is '8'", "give 7"]),
    "not a number": (
        f"{LINE1}\n{resum(LINE2[:8] + ' 51.6x16' + LINE2[16:])}\n",
        ["x.tle:2", "columns 9-16", "inclination", "' 51.6x16'"],
    ),
    "drag": (
        f"{LINE1[:53]}-1160x-4{LINE1[61:]}\n{LINE2}\n",
        ["x.tle:1", "columns 54-61", "drag", "'-1160x-4'"],
    ),
    "SGP4-XP": (
        f"{resum(LINE1[:62] + '4' + LINE1[63:])}\n{LINE2}\n",
        ["x.tle:1", "columns 63-63", "ephemeris type 4", "SGP4-XP"],
    ),
    "line 2 missing": (
        f"{LINE1}\n{LINE1}\n",
        ["x.tle:2", "columns 1-1", "line 2 is missing after line 1 (line 1)"],
    ),
    "file ends": (f"{NAME}\n{LINE1}\n", ["x.tle", "ends after line 1 (line 2)", "line 2 is missing"]),
    "name only": (f"{NAME}\n", ["x.tle", "ends after the name 'ISS (ZARYA)'"]),
    "line 1 missing": (f"{NAME}\n{LINE2}\n", ["x.tle:2", "line 1 of 'ISS (ZARYA)' is missing"]),
    "line 2 first": (f"{LINE2}\n", ["x.tle:1", "line 2 has no line 1 before it"]),
    "numbers differ": (
        f"{LINE1}\n{resum('2 25545' + LINE2[7:])}\n",
        ["x.tle:2", "columns 3-7", "'25545'", "'25544'"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_name_the_place_and_the_finding(case: str) -> None:
    text, parts = CASES[case]
    with pytest.raises(DataFileError) as caught:
        parse_elements(text, "x.tle")
    for part in parts:
        assert part in caught.value.message
    assert caught.value.hint


def test_names_are_found_in_order() -> None:
    wanted = ("STARLINK-3672", "STARLINK-2617")
    assert tuple(one.name for one in read_elements(DEMO_ELEMENTS, wanted)) == wanted


def test_unknown_name_lists_close_ones() -> None:
    with pytest.raises(DataFileError, match="no satellite is called 'STARLINK-2671'") as caught:
        read_elements(DEMO_ELEMENTS, ["STARLINK-2671"])
    assert "STARLINK-2617" in caught.value.hint
    with pytest.raises(DataFileError, match="among 20") as caught:
        read_elements(DEMO_ELEMENTS, ["qqq"])
    assert "first name" in caught.value.hint


def test_a_name_used_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.tle"
    path.write_text(f"A\n{LINE1}\n{LINE2}\nA\n{LINE1}\n{LINE2}\n")
    assert len(read_elements(path)) == 2
    with pytest.raises(DataFileError, match="2 satellites are called 'A'"):
        read_elements(path, ["A"])


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="cannot be read"):
        read_elements(tmp_path / "none.tle")
    (tmp_path / "empty.tle").write_text("\n")
    with pytest.raises(DataFileError, match="holds no element set"):
        read_elements(tmp_path / "empty.tle")
    (tmp_path / "binary.tle").write_bytes(b"ab\xff\xfe")
    with pytest.raises(DataFileError, match="byte 2 is 0xff"):
        read_elements(tmp_path / "binary.tle")
