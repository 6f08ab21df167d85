"""From a campaign's orbit section to its schedules, and what is refused before anything starts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ground_controller.fleet.orders import link_acceleration
from ground_controller.orbit.elements import DEMO_ELEMENTS
from ground_controller.schedules import compile_orbit, schedule_config
from hil_config.errors import ConfigError, DataFileError
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import default_path, load_campaign
from hil_config.wire.schedule_file import encode_schedule

# from the set of 21 October 2024 that the demonstration's satellites are from
DECAYED = """STARLINK-2458
1 48118C 21027AC  24293.31229167  .12126000  00000+0  11453-1 0  2938
2 48118  53.0411 246.1051 0004153 173.5148 301.6083 16.01916505    15
"""

DEMO = load_campaign(default_path("campaign"))
STARLINK = DEMO.orbit.satellites


def campaign(**orbit: Any) -> Campaign:
    plain = DEMO.model_dump(mode="json")
    plain["orbit"].update(orbit)
    return Campaign.model_validate_json(json.dumps(plain))


def test_without_faults_what_happens_is_what_was_predicted() -> None:
    found = compile_orbit(campaign(step_s=10))
    assert found.factual is found.predicted


def test_faults_make_a_factual_schedule_of_its_own() -> None:
    fault = {"kind": "outage", "satellite": STARLINK[0], "other": STARLINK[1], "start_s": 100}
    found = compile_orbit(campaign(step_s=10, faults=[fault]))
    assert found.predicted.link(STARLINK[0], STARLINK[1], 300.0).up
    assert not found.factual.link(STARLINK[0], STARLINK[1], 300.0).up
    assert found.factual.header.kind == "factual"


def test_shells_and_stations_can_be_all_there_is() -> None:
    shell = {"name": "s", "altitude_km": 550, "inclination_deg": 53, "planes": 12, "per_plane": 12, "phasing": 5}
    station = {"name": "Quito", "latitude_deg": -0.2, "longitude_deg": -78.5, "min_elevation_deg": 5}
    found = compile_orbit(
        campaign(
            satellites=["s-P00S00", "s-P03S04", "s-P06S06", "Quito"], shells=[shell], stations=[station], step_s=20,
            relay="constellation", isl="grid", max_range_km=6_000,
        )
    ).factual  # fmt: skip
    path = found.route("s-P00S00", "s-P06S06", 0.0)
    assert path[0] == "s-P00S00" and path[-1] == "s-P06S06" and len(path) > 3
    assert found.header.stations == 1
    to_ground = found.sample(found.arrays.links["time_s"])
    quito = [p for p, pair in enumerate(found.header.pairs) if "Quito" in pair]
    assert to_ground.up[:, quito].any()
    assert (to_ground.hops[:, quito][to_ground.up[:, quito]] >= 1).all()
    for number in range(1, found.arrays.route_first.size - 1):  # a station is an end of routes and no relay
        first, last = found.arrays.route_first[number : number + 2].tolist()
        inner = found.arrays.route_node[first + 1 : last - 1]
        assert "Quito" not in {found.header.nodes[node] for node in inner.tolist()}


def test_elements_relay_for_satellites_of_shells_too(tmp_path: Path) -> None:
    (tmp_path / "sky.tle").write_bytes(DEMO_ELEMENTS.read_bytes())
    shell = {"name": "s", "altitude_km": 550, "inclination_deg": 53, "planes": 2, "per_plane": 2, "phasing": 1}
    orbit = {"satellites": ["s-P00S00", "s-P01S00"], "shells": [shell], "duration_s": 60, "step_s": 60}
    orbit["relay"] = "constellation"
    named = compile_orbit(campaign(elements=str(tmp_path / "sky.tle"), **orbit)).factual
    assert (named.header.source, STARLINK[0] in named.header.config) == ("sky.tle", True)
    left = compile_orbit(campaign(**orbit)).factual  # the demonstration's are the default, not a wish
    assert (left.header.source, STARLINK[0] in left.header.config) == ("Walker shells", False)


def test_a_compiled_file_is_replayed_as_it_is(tmp_path: Path) -> None:
    compiled = compile_orbit(campaign(step_s=10)).factual
    path = tmp_path / "x.hsched"
    path.write_bytes(encode_schedule(compiled))
    found = compile_orbit(campaign(schedule=str(path), step_s=10))
    assert encode_schedule(found.factual) == path.read_bytes()
    for changes, wanted in (
        ({"duration_s": 610}, "ends after 600 s, the campaign lasts 610 s"),
        ({"satellites": [*STARLINK[:3], "STARLINK-1"]}, "has no satellite STARLINK-1"),
        ({"epoch_utc": "2024-10-21T08:21:00Z"}, "begins at 2024-10-21T08:20:00"),
        ({"faults": [{"kind": "outage", "satellite": STARLINK[0]}]}, "compiled already"),
    ):
        with pytest.raises(ConfigError, match=wanted):
            compile_orbit(campaign(schedule=str(path), **{"step_s": 10, **changes}))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataFileError, match="checksum"):
        compile_orbit(campaign(schedule=str(path), step_s=10))


def test_a_schedule_file_must_be_there(tmp_path: Path) -> None:
    text = default_path("campaign").read_text().replace("orbit:\n", "orbit:\n  schedule: none.hsched\n")
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"orbit\.schedule"):
        load_campaign(tmp_path / "c.yaml")


def test_a_typo_in_a_name_is_told_with_close_ones() -> None:
    with pytest.raises(DataFileError, match="STARLINK-2671") as caught:
        compile_orbit(campaign(satellites=["STARLINK-2671", *STARLINK[1:]], relay="constellation"))
    assert "STARLINK-2617" in caught.value.hint


def test_a_decayed_relay_is_left_out_by_line_and_a_decayed_mapped_one_refused(tmp_path: Path) -> None:
    """STARLINK-2458 as its last elements of October 2024 had it: SGP4 loses it within hours."""
    path = tmp_path / "with.tle"
    path.write_text(DEMO_ELEMENTS.read_text() + DECAYED)
    found = compile_orbit(campaign(elements=str(path), relay="constellation", step_s=60))
    line = len(DEMO_ELEMENTS.read_text().splitlines()) + 2
    assert len(found.warnings) == 1
    assert f"STARLINK-2458 left out: line {line}: SGP4 error 6" in found.warnings[0]
    with pytest.raises(DataFileError, match=rf"elements of 'STARLINK-2458' in line {line} .*decayed"):
        compile_orbit(campaign(elements=str(path), satellites=["STARLINK-2458", *STARLINK[1:]]))


def test_links_are_accelerated_only_where_that_is_asked() -> None:
    assert link_acceleration(campaign(rate=10)) == 1.0
    assert link_acceleration(campaign(rate=10, acceleration="links")) == 10.0


def test_terminals_weather_and_ground_rules_reach_the_compiler() -> None:
    asked = campaign(relay="constellation", max_turn_deg_s=0.12, survival=0.9, redraw_s=60, ground_rule="nearest",
                     frame_loss=0.01)  # fmt: skip
    config = schedule_config(asked.orbit, 7)
    assert (config.max_turn_deg_s, config.survival, config.redraw_s, config.seed) == (0.12, 0.9, 60.0, 7)
    assert (config.ground_rule, config.loss) == ("nearest", 0.01)
    plain = schedule_config(campaign().orbit, 7)
    assert (plain.max_turn_deg_s, plain.redraw_s, plain.seed) == (math.inf, math.inf, 0)
