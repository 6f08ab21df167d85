from __future__ import annotations

import math
from pathlib import Path

import pytest

from ground_controller.formats.hypatia import (
    Forward,
    HypatiaState,
    Station,
    Step,
    parse_forwarding,
    parse_isls,
    parse_tles,
    read_hypatia,
    write_hypatia,
)  # fmt: skip
from ground_controller.formats.hypatia_plan import read_hypatia_plan
from ground_controller.formats.plan_csv import read_csv, write_csv
from ground_controller.orbit.elements import Elements, checksum
from hil_config.errors import DataFileError, UsageError


def ring(satellites: int) -> tuple[Elements, ...]:
    """One plane at 630 km, as Hypatia writes it."""
    found = []
    for n in range(satellites):
        one = f"1 {n + 1:05d}U 00000ABC 00001.00000000  .00000000  00000-0  00000+0 0    0"
        two = f"2 {n + 1:05d}  51.9000   0.0000 0000001   0.0000 {n * 360 / satellites:8.4f} 14.80000000    0"
        found.append(Elements(f"Ring {n}", one + str(checksum(one + "0")), two + str(checksum(two + "0"))))
    return tuple(found)


@pytest.fixture
def state() -> HypatiaState:
    satellites = 12
    links = tuple((min(n, (n + 1) % satellites), max(n, (n + 1) % satellites)) for n in range(satellites))
    stations = (Station("Manila", 14.6042, 120.9822, 0.0, -3176809.123456, 5292222.5, 1597743.25),)
    steps = (
        Step(0, (Forward(0, 12, 1, 0, 1), Forward(1, 12, 12, 2, 0))),
        Step(1_000_000_000, (Forward(0, 12, -1, -1, -1),)),
    )
    return HypatiaState(1, satellites, ring(satellites), links, stations, steps, "dynamic_state_1000ms_for_2s")


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_state_survives(state: HypatiaState, tmp_path: Path) -> None:
    put(tmp_path, write_hypatia(state))
    again = read_hypatia(tmp_path)
    assert again == state
    assert write_hypatia(again) == write_hypatia(state)
    assert again.next_hops(999_999_999)[0, 12] == 1
    assert again.next_hops(10**9)[0, 12] == -1


def test_links_become_contacts_with_the_delays_of_the_orbits(state: HypatiaState, tmp_path: Path) -> None:
    put(tmp_path, write_hypatia(state))
    with pytest.raises(UsageError, match="no rate"):
        read_hypatia_plan(tmp_path)
    found = read_hypatia_plan(tmp_path, rate_mbit_s=10.0)
    assert found.plan.epoch_utc == "2000-01-01T00:00:00Z"
    assert (len(found.plan.contacts), found.plan.end_s) == (12 * 2 * 2, 2.0)
    for one in found.plan.contacts:  # neighbours on a circle of 7,006 km: 2 r sin(15 degrees) / c
        assert one.delay_s == pytest.approx(2 * 7006.0 * 0.2588190451 / 299792.458, rel=3e-3)
        assert one.rate_bit_s == 1e7
    assert any("ground stations are left out" in warning for warning in found.warnings)
    assert read_csv(write_csv(found.plan), "x").plan == found.plan
    with pytest.raises(DataFileError, match="at most"):
        read_hypatia_plan(tmp_path, rate_mbit_s=1.0, step_s=1e-5, until_s=2.0)
    for until_s, ends in ((25.0, {10.0, 20.0, 25.0}), (29.0, {10.0, 20.0, 29.0}), (30.0, {10.0, 20.0, 30.0})):
        cut = read_hypatia_plan(tmp_path, rate_mbit_s=1.0, step_s=10.0, until_s=until_s)
        assert {one.end_s for one in cut.plan.contacts} == ends
    with pytest.raises(UsageError, match="to take times from"):
        read_hypatia_plan(tmp_path, rate_mbit_s=1.0, step_s=10.0, until_s=math.inf)


def test_refusals(state: HypatiaState) -> None:
    files = write_hypatia(state)
    tles = files["tles.txt"]
    for text, words in (
        (tles.replace("1 12", "1 13", 1), "t:1: 1 x 13 satellites"),
        (tles.replace("Ring 3", "Ring 4", 1), "t:11: satellite 3 is called 'Ring 4'"),
        (tles[:-20], "t:37"),
        ("x\n" + tles, "t:1: wanted planes"),
    ):
        with pytest.raises(DataFileError, match=words):
            parse_tles(text, "t")
    for text, words in (("0 1\n1 0\n", "i:2: .* already"), ("0 99\n", "i:1"), ("0\n", "i:1"), ("0 a\n", "i:1")):
        with pytest.raises(DataFileError, match=words):
            parse_isls(text, "i", 12)
    with pytest.raises(DataFileError, match="f:2: nodes are 0 to 12"):
        parse_forwarding("0,12,1,0,1\n0,13,1,0,1\n", "f", 13)
