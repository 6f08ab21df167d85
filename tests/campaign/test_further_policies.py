"""Precision, transmission, routing and re-placement in a running campaign: seen at work, and derived again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from ground_controller.decision import Decision
from ground_controller.journal import Journal
from hil_config.wire.messages import NodeEvent, Record, TokenEvidence, decode

if TYPE_CHECKING:
    from tests.campaign.conftest import Finished, Starter

OpenJournal = Callable[[Path], Journal]


@pytest.fixture(scope="module")
def run(module_starter: Starter) -> Finished:
    """Warm boards, one of them about to be too empty to serve, and a link that is down for a while."""
    start = [{"temperature_c": 52.0 + i, "charge": 0.7} for i in range(4)]
    start[1] = {"temperature_c": 40.0, "charge": 0.352}
    return module_starter.start(
        "further", orbit__duration_s=150, orbit__max_range_km=4500, model__replicas=1, twin__start=start,
        policies__precision={"name": "by_importance_and_heat"}, policies__transmission={"name": "importance"},
        policies__replacement={"name": "forecast", "options": {"patience": 1, "worth_j": 100.0, "spare_k": 0.0}},
        policies__routing="cgr",
    ).wait()  # fmt: skip


def _decisions(opened: Journal) -> list[Decision]:
    return [msgspec.json.decode(entry.body, type=Decision) for entry in opened.entries("decision")]


def test_replay_derives_it_all_again(run: Finished) -> None:
    assert run.code == 0, run.errors
    found = run.replay()
    assert (found["mismatches"], found["unchecked"]) == (0, 0)
    assert run.metrics["tokens"] > 20
    assert set(run.metrics["further"]) == {"precision", "transmission", "replacement", "routing"}
    assert run.metrics["accounting"] == "duty"


def test_precision_and_codecs_are_what_the_plans_say(run: Finished, journal: OpenJournal) -> None:
    assert set(run.metrics["rows_by_precision"]) == {"int8", "int4"}
    assert sum(run.metrics["calls_by_codec"].values()) > 0
    plans = {d.plan.version: d.plan for d in _decisions(journal(run.folder))}
    codecs = Counter[str]()
    for entry in journal(run.folder).entries("token"):
        body = decode(entry.body, Record).body
        assert isinstance(body, TokenEvidence)
        plan = plans.get(body.plan_version)
        for layer in body.layers:
            hosts = np.frombuffer(layer.hosts, "<i2")
            for host in set(hosts[hosts >= 0].tolist()):
                assert (
                    plan is None
                    or body.plan_expired
                    or host in {s.node for held in plan.layers[layer.layer].hosts for s in held}
                )
            codecs.update(one.codec for one in layer.sent)
    assert "int4" in codecs


def test_moved_experts_serve_only_after_their_host_has_said_so(run: Finished, journal: OpenJournal) -> None:
    opened = journal(run.folder)
    last = _decisions(opened)[-1]
    assert run.metrics["migrations"].get("here", 0) >= 1
    assert run.metrics["migration_bytes"] > 0 and run.metrics["migration_j"] > 0.0
    names = last.plan.nodes
    said: set[tuple[int, int, str]] = set()
    named: set[tuple[int, int, str]] = set()
    moved = {(move.layer, move.expert, move.target) for move in last.moves}
    for entry in opened.entries():
        if entry.kind == "event":
            body = decode(entry.body, Record).body
            if isinstance(body, NodeEvent) and body.name == "ShardsChanged":
                held = msgspec.json.decode(str(body.details["held"]))
                said |= {(layer, expert, entry.node) for layer, expert, _ in held}
        elif entry.kind == "decision":
            plan = msgspec.json.decode(entry.body, type=Decision).plan
            for layer, expert, target in moved:
                if names.index(target) in {s.node for s in plan.layers[layer].hosts[expert]}:
                    assert (layer, expert, target) in said, "named before it was confirmed"
                    named.add((layer, expert, target))
    assert named


def test_sending_costs_the_satellites_energy(run: Finished, journal: OpenJournal) -> None:
    last = _decisions(journal(run.folder))[-1]
    assert all(n.transmit_j >= 0.0 for n in last.nodes)
    weights_j = run.metrics["migration_j"] / run.metrics["rate"]
    frames_j = 8.0 * run.metrics["link_bytes"] * 1.5e-7
    assert 0.0 < run.metrics["transmit_j"] <= (weights_j + frames_j) * (1.0 + 1e-6)
