"""A campaign that replays a contact plan, from its file to the schedule that nodes get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ground_controller.formats.plan import Contact, build_plan
from ground_controller.formats.plan_csv import write_csv
from ground_controller.schedules import compile_orbit
from hil_config.door import run
from hil_config.errors import ConfigError, DataFileError
from hil_config.schema.load import default_path, load_campaign
from tests.formats import test_omm

NAMES = ("STARLINK-2617", "STARLINK-1364", "STARLINK-1412", "STARLINK-3672")


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """The demonstration's campaign beside a plan in which all satellites meet all the time, at 20 ms."""
    everybody = [Contact(0, 600, a, b, 5e6, 0.02) for a in NAMES for b in NAMES if a != b]
    (tmp_path / "plan.csv").write_text(write_csv(build_plan(everybody, "p").plan))
    late = [Contact(100, 600, one.source, one.target, 5e6, 0.02) for one in everybody]
    (tmp_path / "late.csv").write_text(write_csv(build_plan(late, "p").plan))
    text = default_path("campaign").read_text().replace("orbit:\n", "orbit:\n  plan: plan.csv\n")
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    return path


def with_keys(campaign: Path, *lines: str) -> Path:
    campaign.write_text(campaign.read_text().replace("orbit:\n", "orbit:\n" + "".join(f"  {one}\n" for one in lines)))
    return campaign


def test_links_from_the_plan_and_sunlight_from_the_elements(campaign: Path) -> None:
    found = compile_orbit(load_campaign(campaign))
    assert found.factual is found.predicted
    state = found.factual.link(NAMES[0], NAMES[3], 300.0)  # the geometry has this one down
    assert state.up and state.rate_bit_s == 5e6 and state.delay_s == pytest.approx(0.02)
    assert found.factual.illumination(NAMES[3], 197.0) == 0.0


def test_stated_sunlight_needs_no_elements(campaign: Path) -> None:
    found = compile_orbit(load_campaign(with_keys(campaign, "plan_sunlight: 0.6"))).factual
    assert found.illumination(NAMES[3], 197.0) == pytest.approx(0.6)
    assert "stated: 0.6" in found.header.config


def test_two_plans_are_prediction_and_fact(campaign: Path) -> None:
    found = compile_orbit(load_campaign(with_keys(campaign, "plan_factual: late.csv")))
    assert found.predicted.link(NAMES[0], NAMES[1], 50.0).up
    assert not found.factual.link(NAMES[0], NAMES[1], 50.0).up
    assert (found.predicted.header.kind, found.factual.header.kind) == ("predicted", "factual")


def test_build_and_show(campaign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.hsched"
    assert run(["schedule", "build", str(campaign), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["duration_s"] == 600.0 and all(link["up_share"] == 1.0 for link in told["links"])


def test_a_short_plan_and_a_plan_with_faults_are_refused(campaign: Path) -> None:
    with pytest.raises(ConfigError, match="cannot have faults too") as refused:
        compile_orbit(load_campaign(with_keys(campaign, f"faults: [{{kind: outage, satellite: {NAMES[0]}}}]")))
    assert "plan_factual" in refused.value.hint
    text = campaign.read_text()
    campaign.write_text("".join(line for line in text.splitlines(True) if "faults:" not in line))
    plan = campaign.parent / "plan.csv"
    plan.write_text(plan.read_text().replace(",600,", ",500,"))
    with pytest.raises(
        DataFileError, match=r"plan\.csv:\d+: the plan ends at 500 s of the campaign, which lasts 600 s"
    ):
        compile_orbit(load_campaign(campaign))
    plan.unlink()
    with pytest.raises(ConfigError, match=r"campaign\.yaml:\d+:\d+: orbit\.plan"):
        load_campaign(campaign)


def test_elements_may_be_an_omm_file(tmp_path: Path) -> None:
    rows = [test_omm.fields(one) for one in test_omm.SETS[:-1]]
    (tmp_path / "sets.json").write_text(json.dumps(rows, default=str))
    text = default_path("campaign").read_text()
    assert "elements: demo " in text
    path = tmp_path / "campaign.yaml"
    path.write_text(text.replace("elements: demo ", "elements: sets.json "))
    by_omm, by_lines = (compile_orbit(load_campaign(one)).factual for one in (path, default_path("campaign")))
    for t in (0.0, 300.0, 599.0):
        for pair in by_lines.header.pairs:
            assert by_omm.link(*pair, t) == by_lines.link(*pair, t)
    path.write_text(path.read_text().replace(NAMES[1], "STARLINK-1365"))
    with pytest.raises(DataFileError, match=r"sets\.json: no satellite is called 'STARLINK-1365' among 20") as refused:
        compile_orbit(load_campaign(path))
    assert "STARLINK-1364" in refused.value.hint


def test_contacts_that_end_before_the_campaign_are_told_by_line(campaign: Path, tmp_path: Path) -> None:
    head, *rows = (tmp_path / "plan.csv").read_text().splitlines()
    rows = [row.replace(",600,", ",450,") for row in rows]
    (tmp_path / "plan.csv").write_text("\n".join([head, *rows, "X,Y,0,600,5000000,0.02,0,1", ""]))
    found = compile_orbit(load_campaign(with_keys(campaign, "plan_sunlight: 0.6")))
    (told,) = found.warnings
    assert "plan.csv:2: the last contact between satellites of the campaign ends at 450 s of 600 s" in told
    assert not found.factual.link(NAMES[0], NAMES[1], 500.0).up
