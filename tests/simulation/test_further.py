"""Precision, transmission, routing and re-placement on model nodes: seen at work, and derived again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ground_controller.decision import Decision
from ground_controller.journal import Journal
from ground_controller.preparation import Prepared, prepare
from ground_controller.replay import replay_run
from ground_controller.report.metrics import measure
from ground_controller.simulation.board_model import DEFAULT, Calibration, default_board
from ground_controller.simulation.continuation import content_hash
from ground_controller.simulation.run import simulate
from hil_config.errors import DataFileError
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire.messages import NodeEvent, Record, TokenEvidence, decode

MOVING = {"name": "forecast", "options": {"patience": 1, "worth_j": 100.0, "spare_k": 0.0}}


def _prepared(duration_s: float = 60.0, links: dict[str, Any] | None = None, **policies: Any) -> Prepared:
    """Warm boards, one of them about to be too empty to serve, and a link that is down for a while."""
    intent = load_campaign(default_path("campaign")).model_dump()
    start = [{"temperature_c": 52.0 + i, "charge": 0.7} for i in range(4)]
    start[1] = {"temperature_c": 40.0, "charge": 0.352}
    intent["orbit"] |= {"duration_s": duration_s}
    intent["twin"] |= {"start": tuple(start)}
    intent["model"] |= {"replicas": 1}
    intent["workload"] |= {"max_new_tokens": 16}
    intent["links"] |= links or {}
    intent["policies"] |= policies
    return prepare(load_bench(default_path("bench")), Campaign.model_validate(intent))


def _decisions(folder: Path) -> list[Decision]:
    journal = Journal.read(folder)
    try:
        return [msgspec.json.decode(entry.body, type=Decision) for entry in journal.entries("decision")]
    finally:
        journal.close()


def _evidence(folder: Path) -> list[TokenEvidence]:
    journal = Journal.read(folder)
    try:
        bodies = [decode(entry.body, Record).body for entry in journal.entries("token")]
        return [body for body in bodies if isinstance(body, TokenEvidence)]
    finally:
        journal.close()


def test_all_at_once(tmp_path: Path) -> None:
    prepared = _prepared(
        80.0, precision={"name": "by_importance_and_heat"}, transmission={"name": "importance"}, replacement=MOVING,
        routing="cgr",
    )  # fmt: skip
    simulate(prepared, tmp_path / "run")
    found = replay_run(tmp_path / "run")
    assert found.gates > 100
    assert (found.mismatches, found.unchecked, found.first) == (0, 0, [])
    metrics = measure(tmp_path / "run")
    assert set(metrics.rows_by_precision) == {"int8", "int4"}
    assert any("int4" in codecs for codecs in metrics.calls_by_codec)
    assert metrics.migrations.get("here", 0) >= 1
    assert metrics.migration_bytes > 0
    moved = {(one.layer, one.expert, one.target) for one in _decisions(tmp_path / "run")[-1].moves}
    said: set[tuple[int, int, str]] = set()
    journal = Journal.read(tmp_path / "run")
    for entry in journal.entries("event"):
        event = decode(entry.body, Record).body
        if isinstance(event, NodeEvent) and event.name == "ShardsChanged":
            said |= {(h[0], h[1], entry.node) for h in msgspec.json.decode(str(event.details["held"]))}
    journal.close()
    assert said
    assert said <= moved
    simulate(prepared, tmp_path / "again")
    assert content_hash(tmp_path / "again") == content_hash(tmp_path / "run")


@pytest.mark.parametrize(
    "policies",
    [
        {"precision": {"name": "by_heat"}},
        {"transmission": {"name": "per_link_budget"}},
        {"routing": "snapshot_dijkstra"},
        {"routing": "time_expanded"},
    ],
    ids=lambda policies: "-".join(str(v if isinstance(v, str) else v["name"]) for v in policies.values()),
)
def test_the_others_alone_are_derived_again(policies: dict[str, Any], tmp_path: Path) -> None:
    speed = simulate(_prepared(25.0, **policies), tmp_path / "run")
    assert speed.tokens > 50
    found = replay_run(tmp_path / "run")
    assert (found.mismatches, found.unchecked) == (0, 0)


def test_codecs_change_the_bytes_of_frames(tmp_path: Path) -> None:
    each = {}
    for name in ("full", "importance"):
        simulate(_prepared(25.0, transmission={"name": name}), tmp_path / name)
        metrics = measure(tmp_path / name)
        each[name] = metrics.link_bytes / metrics.tokens
    assert each["importance"] < 0.8 * each["full"]
    codecs = Counter(one.codec for body in _evidence(tmp_path / "importance") for y in body.layers for one in y.sent)
    assert codecs["int4"] > codecs["fp16"]


def test_relays_carry_frames_where_the_link_is_down(tmp_path: Path) -> None:
    """From 278 s to 434 s one link is down: with relays its ends still reach each other, over a third node."""
    hosts: dict[bool, Counter[tuple[str, int]]] = {}
    for relay in (False, True):
        folder = tmp_path / str(relay)
        simulate(_prepared(330.0, {"relay": relay}), folder, stride=20)
        journal = Journal.read(folder)
        seen = hosts[relay] = Counter[tuple[str, int]]()
        for entry in journal.entries("token"):
            body = decode(entry.body, Record).body
            assert isinstance(body, TokenEvidence)
            if entry.scenario_s > 290.0:
                for layer in body.layers:
                    seen.update((entry.node, n) for n, up in enumerate(layer.live) if not up)
        journal.close()
        assert replay_run(folder).mismatches == 0
    assert hosts[False]
    assert not hosts[True]


def test_a_precision_that_was_not_calibrated_is_named(tmp_path: Path) -> None:
    prepared = _prepared(40.0, precision={"name": "by_heat"})
    board = default_board(prepared.profiles[0])
    works = tuple(
        msgspec.structs.replace(w, precision="fp32") if w.kind == "expert" else w for w in board.works
    )  # fmt: skip
    with pytest.raises(DataFileError, match="no entry for expert at int"):
        simulate(prepared, tmp_path / "run", Calibration("x", (msgspec.structs.replace(board, works=works),)))
    assert DEFAULT.board(prepared.profiles[0]).work("expert", "int4").samples == 0
