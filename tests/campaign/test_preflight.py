"""Preflight: what is wrong is found before anything is generated, and said where it is."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ground_controller.preflight.boards import look_at_boards
from ground_controller.preflight.inputs import look_at_inputs
from ground_controller.preflight.nodes import clocks, refuse_unready, releases
from ground_controller.preparation import Prepared, prepare
from hil_config.errors import EnvironmentFault
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire.messages import Status


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign")))


@pytest.fixture
def flipped(prepared: Prepared, tmp_path: Path) -> Prepared:
    """The same with one bit of one expert's file changed."""
    shards = tmp_path / "shards"
    shutil.copytree(prepared.shards, shards)
    victim = shards / prepared.manifest.find("expert", "int8", 1, 2).name
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(data)
    return dataclasses.replace(prepared, shards=shards)


def test_inputs_that_are_in_order(prepared: Prepared, tmp_path: Path) -> None:
    found = look_at_inputs(prepared, tmp_path / "not" / "there" / "yet")
    assert [(one.name, one.outcome) for one in found] == [
        ("disk space", "pass"), ("schedule", "pass"), ("paths", "pass"), ("shards", "pass")
    ]  # fmt: skip
    refuse_unready(found)


def test_an_orbit_that_is_too_long_for_disk_and_schedule(prepared: Prepared, tmp_path: Path) -> None:
    orbit = prepared.campaign.orbit.model_copy(update={"duration_s": 2_592_000.0, "rate": 0.01})
    longer = dataclasses.replace(prepared, campaign=prepared.campaign.model_copy(update={"orbit": orbit}))
    space, schedule, _, shards = look_at_inputs(longer, tmp_path)
    assert (space.outcome, schedule.outcome, shards.outcome) == ("fail", "fail", "pass")
    assert space.where == str(tmp_path)
    with pytest.raises(EnvironmentFault, match=r"not ready: disk space: .*; schedule: 600 s, wanted 2.592e"):
        refuse_unready((space, schedule, shards))


@pytest.mark.parametrize(
    ("placement", "figure"),
    [
        ("rank_match", r"\d+ of 64 experts within reach"),
        (
            "random_in_ring_central",
            "64 of 64 experts within reach of their gateways at some instant; never from layer 1",
        ),
    ],
)
def test_satellites_that_never_see_each_other(placement: str, figure: str, tmp_path: Path) -> None:
    """The second has each slice's experts on its own gateways, and yet no token gets from one slice to the next."""
    campaign = load_campaign(default_path("campaign"))
    chosen = campaign.policies.placement.model_copy(update={"name": placement})
    apart = campaign.model_copy(
        update={
            "orbit": campaign.orbit.model_copy(update={"max_range_km": 100.0}),
            "model": campaign.model.model_copy(update={"replicas": 1}),
            "policies": campaign.policies.model_copy(update={"placement": chosen}),
        }
    )
    checks = look_at_inputs(prepare(load_bench(default_path("bench")), apart), tmp_path)
    found = next(one for one in checks if one.name == "paths")
    assert (found.outcome, bool(found.where)) == ("fail", placement == "rank_match")
    with pytest.raises(EnvironmentFault, match=f"not ready: paths: {figure}"):
        refuse_unready((found,))


def test_a_file_that_changed(flipped: Prepared, tmp_path: Path) -> None:
    *_, shards = look_at_inputs(flipped, tmp_path)
    assert shards.outcome == "fail"
    assert flipped.manifest.find("expert", "int8", 1, 2).name in shards.where


def test_what_boards_say_of_themselves() -> None:
    statuses = {name: Status(node=name, boot_id="1", state="online", agent_version="0.0.9") for name in ("a", "b")}
    old = releases(statuses, ("a", "b"))
    assert (old.outcome, old.where, old.hint) == (
        "fail", "a: 0.0.9; b: 0.0.9", "bring them there: hil provision upgrade"
    )  # fmt: skip
    unsure = clocks({"a": (5, 1_000), "b": (7, 60_000_000)}, 0.5)
    assert (unsure.outcome, unsure.where) == ("fail", "b: 60.000 ms")
    assert clocks({"a": (5, 1_000)}, 0.5).outcome == "pass"


def test_boards_refuse_a_shard_that_changed(flipped: Prepared, tmp_path: Path) -> None:
    """Two boards hold the expert: both say so, and which file it is."""
    home = tmp_path / "bench"
    home.mkdir()
    found = {one.name: one for one in look_at_boards(flipped, home)}
    assert {name: one.outcome for name, one in found.items()} == {
        "boards online": "pass", "agent versions": "pass", "clock offsets": "pass", "shards on boards": "fail",
    }  # fmt: skip
    refused = found["shards on boards"]
    assert refused.figure.startswith("2 of 4")
    assert refused.where.count(flipped.manifest.find("expert", "int8", 1, 2).name) == 2


def test_a_port_that_is_taken(prepared: Prepared, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = prepared.bench.broker.model_copy(update={"port": port})
        busy = dataclasses.replace(prepared, bench=prepared.bench.model_copy(update={"broker": broker}))
        first, *rest = look_at_boards(busy, tmp_path)
    assert (first.name, first.outcome) == ("boards online", "fail")
    assert str(port) in first.figure
    assert {one.outcome for one in rest} == {"not applicable"}


def test_of_a_mixed_bench_the_real_boards_are_asked(prepared: Prepared, tmp_path: Path) -> None:
    """The model boards have no agent, no clock and no shards."""
    boards = prepared.bench.boards
    models = tuple(board.model_copy(update={"kind": "model"}) for board in boards[2:])
    mixed = prepared.bench.model_copy(update={"boards": boards[:2] + models})
    once = prepared.campaign.model.model_copy(update={"replicas": 1})
    campaign = prepared.campaign.model_copy(update={"model": once})
    found = look_at_boards(prepare(mixed, campaign), tmp_path)
    assert [(one.name, one.outcome, one.figure[:6]) for one in found] == [
        ("boards online", "pass", "2 of 2"), ("agent versions", "pass", "2 of 2"),
        ("clock offsets", "pass", "uncert"), ("shards on boards", "pass", "2 of 2"),
    ]  # fmt: skip


def test_the_command(command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = command("campaign", "check", "--demo", "--out", str(tmp_path / "runs"), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ready"]
    assert [check["name"] for check in told["checks"]] == [
        "disk space", "schedule", "paths", "shards", "boards online", "agent versions", "clock offsets",
        "shards on boards",
    ]  # fmt: skip
    assert not (tmp_path / "runs").exists()
