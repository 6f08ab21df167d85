"""A campaign's constellation as Hypatia's folder: the same satellites, links that stand, and there and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ground_controller.formats.hypatia import read_hypatia, write_hypatia
from ground_controller.formats.hypatia_export import export_hypatia
from ground_controller.orbit.elements import DEMO_ELEMENTS, read_elements
from ground_controller.orbit.instant import parse_instant
from ground_controller.orbit.propagate import positions
from ground_controller.orbit.refit import at_epoch
from ground_controller.schedules import orbit_sources
from hil_config.door import run
from hil_config.schema.load import default_path, load_campaign

STATIONS = """  stations:
    - {name: Zurich, latitude_deg: 47.4, longitude_deg: 8.5, min_elevation_deg: 5}
    - {name: Manila, latitude_deg: 14.6042, longitude_deg: 120.9822, min_elevation_deg: 5}
"""
WALKER = """  satellites: [w-P00S00, w-P01S01]
  shells:
    - {name: w, altitude_km: 780, inclination_deg: 86.4, planes: 6, per_plane: 11, phasing: 3, pattern: star}
  relay: constellation
  isl: grid
  max_range_km: 6000
"""


def campaign(path: Path, orbit: str, drop: tuple[str, ...] = ()) -> Path:
    """The demonstration's campaign with other lines in `orbit`."""
    keys = {line.split(":")[0].strip() for line in orbit.splitlines() if line[:3].strip() and line[:4] != "    "}
    lines = default_path("campaign").read_text().splitlines()
    begin = lines.index("orbit:")
    end = next(n for n in range(begin + 1, len(lines)) if lines[n] and not lines[n].startswith((" ", "#")))
    kept, skipping = [], False
    for line in lines[begin + 1 : end]:
        if line.startswith("  ") and line[2:3].strip() and not line[2:].startswith(("-", "#")):
            skipping = line.split(":")[0].strip() in {*keys, *drop}
        if not skipping:
            kept.append(line)
    path.write_text("\n".join([*lines[: begin + 1], *kept, orbit.rstrip(), *lines[end:], ""]))
    return path


def export(*arguments: str | Path) -> int:
    return run(["schedule", "export", "--format", "hypatia", *map(str, arguments)])


def files_of(folder: Path) -> dict[str, str]:
    return {str(one.relative_to(folder)): one.read_text() for one in sorted(folder.rglob("*")) if one.is_file()}


def test_elements_at_another_epoch_are_the_same_orbits() -> None:
    sets = read_elements(DEMO_ELEMENTS)
    epoch = parse_instant("2024-10-21T08:20:00Z")
    found = at_epoch(sets, epoch)
    assert {one.line1[18:32] for one in found} == {"24295.34722222"}
    t = np.arange(0.0, 5_700.0, 60.0)
    apart = np.linalg.norm(positions(sets, epoch, t).position_km - positions(found, epoch, t).position_km, axis=-1)
    assert apart.max() < 0.05  # 0.0001 degrees are 12 m; SGP4 against the sky errs by a kilometre
    assert at_epoch(found, epoch) == found
    assert [one.line1[2:17] for one in found] == [one.line1[2:17] for one in sets]


def test_there_and_back_is_identical(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Export, read as elements of a campaign, export again: the same bytes, forwarding states too."""
    orbit = (
        "  step_s: 30\n  duration_s: 300\n  relay: constellation\n  isl: in_range\n  max_range_km: 3000\n" + STATIONS
    )
    first, again = tmp_path / "first", tmp_path / "again"
    source = campaign(tmp_path / "a.yaml", orbit)
    assert export("--campaign", source, "--out", first, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["satellites"], told["stations"], told["steps"]) == (len(read_elements(DEMO_ELEMENTS)), 2, 10)
    assert told["apart_km"] < 0.05 and told["isls"] > 10
    names = [one.name for one in read_hypatia(first).elements[:4]]
    assert names[0] == "STARLINK-2617 0"
    back = f"  elements: {first}/tles.txt\n  satellites: [{', '.join(names)}]\n" + orbit
    assert export("--campaign", campaign(tmp_path / "b.yaml", back), "--out", again) == 0
    assert files_of(again) == files_of(first)
    assert write_hypatia(read_hypatia(first)) == files_of(first)
    plan = tmp_path / "plan.csv"
    assert (
        run(["schedule", "import", str(first), "--format", "hypatia", "--rate-mbit-s", "10", "--out", str(plan)]) == 0
    )
    assert len(plan.read_text().splitlines()) >= 10 * 2 * told["isls"]


def test_a_compiled_schedule_gives_what_its_campaign_gives(tmp_path: Path) -> None:
    source = campaign(tmp_path / "a.yaml", "  step_s: 60\n" + STATIONS)
    assert run(["schedule", "build", str(source), "--out", str(tmp_path / "a.hsched")]) == 0
    assert export("--campaign", source, "--out", tmp_path / "one") == 0
    assert export(tmp_path / "a.hsched", "--out", tmp_path / "two") == 0
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_shell_has_its_grid_and_paths_that_can_be_walked(tmp_path: Path) -> None:
    orbit = "  step_s: 60\n  duration_s: 240\n" + WALKER + STATIONS
    config, elements, warnings = orbit_sources(load_campaign(campaign(tmp_path / "a.yaml", orbit)).orbit)
    found = export_hypatia(config, elements)
    state = found.state
    assert not elements and not warnings
    assert (state.planes, state.per_plane, len(state.elements)) == (6, 11, 66)
    assert {one.line2[26:33] for one in state.elements} == {"0000001"}  # PyEphem, under Hypatia, fails at 0
    assert len(state.isls) == 66 + 55 and state.elements[65].name == "w-P05S10 65"
    assert any("SGP4 moves the written sets" in one for one in found.warnings) and 1.0 < found.apart_km < 30.0
    assert [step.time_ns for step in state.steps] == [n * 60 * 10**9 for n in range(4)]
    neighbours = {node: [] for node in range(66)}  # type: dict[int, list[int]]
    for a, b in state.isls:
        neighbours[a].append(b)
        neighbours[b].append(a)
    hops = state.next_hops(state.steps[-1].time_ns)
    assert len(hops) == 66 * 2 + 2
    assert len(state.steps[0].changes) == len(hops)
    reached = 0
    for source, goal in ((66, 67), (67, 66), (5, 66), (40, 67)):
        node, path = source, [source]
        while node not in {goal, -1} and len(path) < 70:
            node = hops[node, goal]
            path.append(node)
        reached += path[-1] == goal
    assert reached >= 2
    for row in state.steps[0].changes:
        if row.next_hop == -1:
            assert (row.interface, row.next_interface) == (-1, -1)
        elif row.node < 66 and row.next_hop < 66:
            assert neighbours[row.node][row.interface] == row.next_hop
            assert neighbours[row.next_hop][row.next_interface] == row.node
        elif row.node < 66:
            assert (row.interface, row.next_interface) == (len(neighbours[row.node]), 0)
        else:
            assert (row.interface, row.next_interface) == (0, len(neighbours[row.next_hop]))


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = campaign(tmp_path / "a.yaml", "  step_s: 60\n"), tmp_path / "out"
    plan = tmp_path / "plan.csv"
    plan.write_text("source,target,start_s,end_s,rate_bit_s,delay_s\na,b,0,60,8000,0.25\n")
    planned = campaign(tmp_path / "p.yaml", "  plan: plan.csv\n  satellites: [a, b]\n")
    oem = campaign(tmp_path / "o.yaml", "  elements: sats.oem\n")
    (tmp_path / "sats.oem").write_text("CCSDS_OEM_VERS = 2.0\n")
    comma = campaign(tmp_path / "s.yaml", STATIONS.replace("Zurich", '"a, b"'))
    for arguments, words in (
        (("--out", out), "give --campaign"),
        ((plan, "--campaign", source, "--out", out), "made from one constellation"),
        ((plan, "--out", out), "a contact plan has no orbits"),
        (("--campaign", planned, "--out", out), "orbit.plan"),
        (("--campaign", oem, "--out", out), "holds states, no elements"),
        (("--campaign", comma, "--out", out), "commas"),
        (("--campaign", source, "--out", out, "--round"), "mean nothing for hypatia"),
        (("--campaign", source, "--out", out, "--format", "ion"), "made from a contact plan"),
    ):
        assert export(*arguments) in {2, 3, 4}, arguments
        assert words in capsys.readouterr().err
    assert not out.exists()
