"""`hil schedule`: build, show, validate, and what they say about a file that is not right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ground_controller.cli.schedule import schedule
from ground_controller.formats.plan import Contact, ContactPlan
from ground_controller.formats.plan_schedule import Sky, Window, schedule_of_plan
from hil_config.errors import ConfigError, DataFileError
from hil_config.schema.load import default_path
from hil_config.wire.schedule_file import decode_schedule, encode_schedule

EXTRA = """  relay: constellation
  isl: nearest
  shells:
    - {name: w, altitude_km: 550, inclination_deg: 53, planes: 6, per_plane: 8, phasing: 3}
  stations:
    - {name: Suva, latitude_deg: -18.1, longitude_deg: 178.4, mask: [[0, 20], [180, 5]]}
  faults:
    - {kind: outage, satellite: STARLINK-2617, start_s: 100, end_s: 200}
    - {kind: ephemeris_error, satellite: STARLINK-1412, value: 2}
"""


def run(*arguments: str) -> str:
    done = CliRunner().invoke(schedule, list(arguments), catch_exceptions=False, standalone_mode=False)
    return done.stdout


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("schedule") / "c.yaml"
    text = default_path("campaign").read_text().replace("  step_s: 1 ", "  step_s: 5 ")
    path.write_text(text.replace("orbit:\n", "orbit:\n" + EXTRA))
    return path


@pytest.fixture(scope="module")
def built(campaign: Path) -> Path:
    path = campaign.with_name("x.hsched")
    run("build", str(campaign), "--out", str(path), "--predicted-out", str(campaign.with_name("p.hsched")))
    return path


def test_build_writes_both_and_leaves_nothing_half_done(built: Path) -> None:
    factual, predicted = (decode_schedule(built.with_name(name).read_bytes()) for name in ("x.hsched", "p.hsched"))
    assert (factual.header.kind, predicted.header.kind) == ("factual", "predicted")
    assert not factual.link("STARLINK-2617", "STARLINK-1364", 150.0).up
    assert not list(built.parent.glob("*.part"))


def test_validate_compiles_it_again_to_the_same_bytes(built: Path) -> None:
    told = json.loads(run("validate", str(built), "--json"))
    assert told["recompiled"] is True
    assert "sound; the same bytes" in run("validate", str(built))


def test_validate_finds_an_edited_file_even_with_a_right_checksum(built: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from hil_config.wire.link_schedule import LinkSchedule

    found = decode_schedule(built.read_bytes())
    links = found.arrays.links.copy()
    links["rate_bit_s"] *= 2.0
    path = tmp_path / "edited.hsched"
    path.write_bytes(encode_schedule(LinkSchedule(found.header, replace(found.arrays, links=links))))
    with pytest.raises(DataFileError, match="compiled again from its own header"):
        run("validate", str(path))


def test_validate_holds_it_against_a_campaign(built: Path, campaign: Path, tmp_path: Path) -> None:
    run("validate", str(built), "--campaign", str(campaign))
    longer = tmp_path / "long.yaml"
    longer.write_text(campaign.read_text().replace("duration_s: 600", "duration_s: 900"))
    with pytest.raises(ConfigError, match="ends after 600 s, the campaign lasts 900 s"):
        run("validate", str(built), "--campaign", str(longer))


def test_show_tells_contacts_hops_and_eclipses(built: Path) -> None:
    told = json.loads(run("show", str(built), "--json"))
    assert told["kind"] == "factual"
    link = next(one for one in told["links"] if {one["from"], one["to"]} == {"STARLINK-2617", "STARLINK-1364"})
    assert link["contacts"] == [[0.0, 100.0], [200.0, 600.0]]
    assert link["up_share"] == pytest.approx(5 / 6, abs=1e-4)
    text = run("show", str(built))
    bars = re.findall(r"[█▒·]{60}", text)
    assert len(bars) == len(told["links"]) + len(told["sunlit_share"])


def test_links_that_differ_by_direction_are_listed_twice(tmp_path: Path) -> None:
    contacts = [
        Contact(0, 60, "A", "B", 1e6, 0.5),
        Contact(20, 80, "B", "A", 1e6, 0.1),
        Contact(0, 100, "B", "C", 1e3, 1),
    ]
    window = Window(("A", "C", "D", "B"), "2024-10-21T08:20:00Z", 100.0, 1.0)
    plan = ContactPlan(tuple(contacts), registered=("D",))
    path = tmp_path / "plan.hsched"
    path.write_bytes(encode_schedule(schedule_of_plan(plan, "plan.csv", window, Sky(stated=0.5))))
    told = {(one["from"], one["to"]): one["contacts"] for one in json.loads(run("show", str(path), "--json"))["links"]}
    assert told[("A", "B")] == [[0.0, 60.0]] and told[("B", "A")] == [[20.0, 80.0]]
    assert told[("B", "C")] == [[0.0, 100.0]] and told[("C", "B")] == []
    assert told[("A", "C")] == [] and ("C", "A") not in told
    warnings = json.loads(run("validate", str(path), "--json"))["warnings"]
    assert "D never has a path to anybody" in warnings and not any("C never" in one for one in warnings)
    assert run("show", str(path)).count("▒" * 60 + "  50.0%") == 4  # half of the Sun's disc is not the whole
    run("show", str(path), "--html", str(tmp_path / "x.html"))
    assert "B - A" in (tmp_path / "x.html").read_text()


def test_the_page_and_the_picture_stand_alone(built: Path, tmp_path: Path) -> None:
    page = tmp_path / "x.html"
    run("show", str(built), "--html", str(page))
    text = page.read_text()
    assert "factual schedule, modelled from starlink_demo.tle" in text
    for title in ("Ground tracks", "Contacts", "One-way delay", "Rate", "Hops", "Sunlight"):
        assert title in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plots)")
    picture = tmp_path / "x.png"
    run("show", str(built), "--png", str(picture))
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and picture.stat().st_size > 20_000


def test_a_path_that_cannot_be_written_is_told(campaign: Path, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="cannot be written"):
        run("build", str(campaign), "--out", str(tmp_path / "none" / "x.hsched"))
