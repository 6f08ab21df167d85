"""The record of a tick: nodes by column, and the rows of journals of version 1."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ground_controller.core import Core
from ground_controller.decision import FIELDS, Decision, encode_decision, history, same_decision
from ground_controller.preparation import Prepared, prepare
from hil_config.schema.load import default_path, load_bench, load_campaign

VERSION_1 = Path(__file__).with_name("decision_version_1.json")
"""Tick 20 of a run that commit 1f450bb made of the demonstration campaign."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign")))


@pytest.fixture
def decisions(prepared: Prepared) -> list[Decision]:
    core = Core(prepared.setting, prepared.policy, 1, 5.0)
    return [core.advance(t, 20.0 * t, []) for t in range(4)]


def test_rows_and_columns_are_the_same_numbers(decisions: list[Decision]) -> None:
    read = msgspec.json.decode(encode_decision(decisions[3]), type=Decision)
    assert encode_decision(read) == encode_decision(decisions[3])
    assert [row.node for row in read.nodes] == list(read.plan.nodes)
    for field in FIELDS:
        assert [getattr(row, field) for row in read.nodes] == read.column(field).tolist()
        assert np.array_equal(history(decisions, field)[3], read.column(field))
    assert len({row.temperature_c for row in read.nodes}) > 1


def test_a_record_of_version_1_is_read_and_compared(decisions: list[Decision]) -> None:
    body = VERSION_1.read_bytes().strip()
    old = msgspec.json.decode(body, type=Decision)
    rows = json.loads(body)["nodes"]
    assert isinstance(old.numbers, tuple)
    assert [row.node for row in old.nodes] == [row["node"] for row in rows]
    assert old.column("charge").tolist() == [row["charge"] for row in rows]
    again = json.loads(encode_decision(old))  # nothing of it is lost; what came later has its default
    assert all(row.items() <= new.items() for row, new in zip(rows, again["nodes"], strict=True))
    assert same_decision(msgspec.structs.replace(old, numbers=old.nodes), body)
    now = decisions[2]
    as_then = encode_decision(msgspec.structs.replace(now, numbers=now.nodes))
    assert isinstance(json.loads(as_then)["nodes"], list)
    assert same_decision(now, as_then) and same_decision(now, encode_decision(now))
    assert not same_decision(now, b"\xff" + as_then) and not same_decision(now, encode_decision(now)[:-1])
    assert not same_decision(decisions[3], as_then) and not same_decision(now, body)
