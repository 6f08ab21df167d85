"""What ships: the demonstration's files, profiles, published schemas; and the hash of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from hil_config.errors import ConfigError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.json_schema import MODELS, json_schema, schema_text
from hil_config.schema.load import config_hash, default_path, load_bench, load_campaign
from hil_config.schema.profiles import load_profile, profile_names

PUBLISHED = Path(__file__).parents[2] / "docs" / "reference" / "schemas"


@pytest.fixture
def bench() -> Bench:
    return load_bench(default_path("bench"))


@pytest.fixture
def campaign() -> Campaign:
    return load_campaign(default_path("campaign"))


def test_demonstration(bench: Bench, campaign: Campaign) -> None:
    campaign.check_against(bench, default_path("campaign"))
    assert [board.name for board in bench.boards] == ["alpha", "bravo", "charlie", "delta"]
    assert {board.profile for board in bench.boards} == {"local-process"}


def test_demonstration_satellites_are_in_the_elements_that_ship(campaign: Campaign) -> None:
    data = Path(__file__).parents[2] / "ground_controller" / "orbit" / "data" / "starlink_demo.tle"
    lines = data.read_text(encoding="utf-8").splitlines()
    assert set(campaign.orbit.satellites) <= set(lines)


def test_round_trip_through_json(bench: Bench, campaign: Campaign) -> None:
    assert Bench.model_validate_json(bench.model_dump_json()) == bench
    assert Campaign.model_validate_json(campaign.model_dump_json()) == campaign


def test_models_are_frozen(bench: Bench) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        bench.bench = "other"  # type: ignore[misc]  # what is tested


def test_hash_depends_on_every_value_and_not_on_the_folder(bench: Bench, campaign: Campaign) -> None:
    known = config_hash(bench, campaign)
    assert len(known) == 64
    wide = campaign.model.model_copy(update={"block": 128})
    assert config_hash(bench, campaign.model_copy(update={"model": wide})) != known
    assert config_hash(bench, campaign.model_copy(update={"seed": 2})) != known
    assert config_hash(bench.model_copy(update={"bench": "other"}), campaign) != known

    def with_elements(path: str) -> Campaign:
        return campaign.model_copy(update={"orbit": campaign.orbit.model_copy(update={"elements": path})})

    here, there = with_elements("/here/a.tle"), with_elements("/there/a.tle")
    assert config_hash(bench, here) == config_hash(bench, there) != config_hash(bench, with_elements("b.tle"))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_published_schema_is_up_to_date(name: str) -> None:
    published = (PUBLISHED / f"{name}.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(name), (
        f"write it again: hil config schema {name} > docs/reference/schemas/{name}.schema.json"
    )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_field_of_a_schema_is_described(name: str) -> None:
    schema = json_schema(name)
    assert schema["additionalProperties"] is False
    for part in [schema, *schema["$defs"].values()]:
        assert part["additionalProperties"] is False
        for key, field in part["properties"].items():
            # A description that says what the section's own does is left to the section.
            section = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
            assert field.get("description") or section.get("description"), f"{part['title']}.{key}"


def test_profiles() -> None:
    names = profile_names()
    assert names == ("jetson-orin-nano", "local-process", "raspberry-pi-4b", "raspberry-pi-5")
    for name in names:
        profile = load_profile(name)
        assert profile.name == name
        assert "ssumed" in profile.source  # says which numbers are
    pi = load_profile("raspberry-pi-4b")
    assert pi.idle_w + pi.cores * pi.per_core_w == pytest.approx(6.4)


def test_unknown_profile() -> None:
    with pytest.raises(ConfigError, match="there is no board profile 'pi'") as caught:
        load_profile("pi")
    assert caught.value.hint == f"use one of {', '.join(profile_names())}"


def test_published_schemas_say_what_the_models_say() -> None:
    schema = json.loads((PUBLISHED / "bench.schema.json").read_text(encoding="utf-8"))
    assert schema["required"] == ["bench", "boards"]
    assert schema["$defs"]["Broker"]["properties"]["port"]["maximum"] == 65_535
