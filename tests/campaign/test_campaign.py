"""What a finished campaign leaves behind: a record that replays, tables, a report, and no contradictions."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from ground_controller.client_events import RequestBegan, RequestEnded, TokenArrived
from ground_controller.decision import Decision
from ground_controller.journal import NAME, Journal
from ground_controller.preparation import platform_of
from ground_controller.twin import Twin
from hil_config.energy import GAP_PERIODS
from hil_config.schema.campaign import Campaign
from hil_config.wire.manifest import ModelCard
from hil_config.wire.messages import Record, SampleBatch, TokenEvidence, decode
from models.serving.layer_gate import check_plan
from tests.campaign.page import Page

if TYPE_CHECKING:
    from tests.campaign.conftest import Finished, Starter

Command = Callable[..., subprocess.CompletedProcess[str]]
OpenJournal = Callable[[Path], Journal]

TABLES = {"samples", "satellites", "tokens", "steps", "links", "requests", "events"}
LEAVING = "bravo"
"""Starts just above the soft limit of charge, in the Earth's shadow: it goes out of service after 20 s."""


@pytest.fixture(scope="module")
def runs(module_starter: Starter) -> dict[str, Finished]:
    """One finished run per selection policy, all else equal."""
    return {
        policy: module_starter.start(
            policy, orbit__duration_s=120, policies__selection__name=policy, twin__start__1__charge=0.3505
        ).wait()
        for policy in ("topk", "lyapunov")
    }  # fmt: skip


@pytest.fixture(params=["topk", "lyapunov"])
def run(request: pytest.FixtureRequest, runs: dict[str, Finished]) -> Finished:
    finished = runs[request.param]
    assert finished.code == 0, finished.errors
    return finished


def _decisions(journal: Journal) -> list[Decision]:
    return [msgspec.json.decode(entry.body, type=Decision) for entry in journal.entries("decision")]


def _evidence(journal: Journal) -> list[tuple[str, TokenEvidence]]:
    found = []
    for entry in journal.entries("token"):
        body = decode(entry.body, Record).body
        assert isinstance(body, TokenEvidence)
        found.append((entry.node, body))
    return found


def _tokens(journal: Journal) -> list[TokenArrived]:
    return [msgspec.json.decode(entry.body, type=TokenArrived) for entry in journal.entries("client_token")]


def test_the_run_has_numbers(run: Finished) -> None:
    m = run.metrics
    assert m["tokens"] > 20
    assert 0.9 * m["tokens"] / m["host_s"] <= m["tokens_per_s"] <= m["tokens"] / m["host_s"] + 1e-3, (
        "a few come a moment after the orbit's end, and are not of its seconds"
    )
    assert m["finished"] > 0
    assert 0 < m["tpot_ms"]["p50"] <= m["tpot_ms"]["p99"]
    assert 0 < m["ttft_ms"]["p50"] <= m["ttft_ms"]["p99"]
    assert 0.0 < m["kept_mass"] <= 1.0 + 1e-6
    assert m["scenario_s"] >= 120
    assert (m["record_gaps"], m["records_missing"], m["lost_nodes"], m["broker_restarts"]) == ({}, {}, [], 0)
    assert m["lost_rows"] == 0
    assert m["restarts"] == {}


def test_each_run_is_decided_by_its_own_policy(runs: dict[str, Finished], journal: OpenJournal) -> None:
    for name, finished in runs.items():
        opened = journal(finished.folder)
        top_k = msgspec.json.decode(opened.meta("model_card"), type=ModelCard).routing.top_k
        assert (finished.metrics["selection"], finished.metrics["seed"]) == (name, 1)
        assert {decision.plan.policy for decision in _decisions(opened)} == {name}
        if name == "topk":
            assert all(set(layer.price) == {0.0} for d in _decisions(opened) for layer in d.plan.layers)
            assert finished.metrics["experts_per_token"] == pytest.approx(top_k)
            whole = [step for _, step in _evidence(opened) if not {"rerouted", "lost"}.intersection(step.degraded)]
            assert whole and all(step.kept_mass == pytest.approx(1.0, abs=1e-6) for step in whole)


def test_replay_finds_no_mismatch(run: Finished, journal: OpenJournal) -> None:
    found = run.replay()
    opened = journal(run.folder)
    gates = sum(len(body.layers) for _, body in _evidence(opened))
    assert (found["mismatches"], found["unchecked"]) == (0, 0)
    assert found["ticks"] == len(_decisions(opened)) > 20
    assert found["gate_decisions"] == gates > 0


def _copy(run: Finished, folder: Path) -> sqlite3.Connection:
    folder.mkdir()
    shutil.copy(run.folder / NAME, folder / NAME)
    return sqlite3.connect(folder / NAME, isolation_level=None)


def test_replay_finds_a_changed_byte_in_a_decision(run: Finished, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "copy"
    with closing(_copy(run, folder)) as db:
        query = "SELECT id, tick, body FROM entry WHERE kind = 'decision' ORDER BY id LIMIT 1 OFFSET 7"
        row, tick, body = db.execute(query).fetchone()
        at = body.index(b'"temperature_c":') + len(b'"temperature_c":')
        changed = body[:at] + (b"3" if body[at : at + 1] != b"3" else b"4") + body[at + 1 :]
        assert sum(a != b for a, b in zip(body, changed, strict=True)) == 1
        db.execute("UPDATE entry SET body = ? WHERE id = ?", (changed, row))
    done = command("campaign", "replay", str(folder), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 10
    assert found["mismatches"] == 1
    assert f"tick {tick}" in found["first"][0]
    assert f"tick {tick}" in done.stderr


def test_replay_finds_a_changed_pick(run: Finished, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "copy"
    with closing(_copy(run, folder)) as db:
        query = "SELECT id, body FROM entry WHERE kind = 'token' ORDER BY id LIMIT 1 OFFSET 9"
        row, body = db.execute(query).fetchone()
        record = decode(body, Record)
        assert isinstance(record.body, TokenEvidence)
        layer, *others = record.body.layers
        picks = np.frombuffer(layer.picks, "<i2").copy()
        picks[0] ^= 1
        layer = msgspec.structs.replace(layer, picks=picks.tobytes())
        token = msgspec.structs.replace(record.body, layers=(layer, *others))
        record = msgspec.structs.replace(record, body=token)
        db.execute("UPDATE entry SET body = ? WHERE id = ?", (msgspec.json.encode(record), row))
    done = command("campaign", "replay", str(folder), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 10
    assert found["mismatches"] == 1
    assert found["first"] == [f"request {token.request} position {token.start} layer {layer.layer}: other picks"]


def test_export_has_units_provenance_and_the_same_rows_twice(run: Finished) -> None:
    out = run.folder / "export"
    assert {path.stem for path in out.glob("*.parquet")} == TABLES
    assert {path.stem for path in out.glob("*.csv")} == TABLES
    assert {Path(path).name for path in run.told["export"]} == {path.name for path in out.iterdir()}
    for name in TABLES:
        table = pyarrow.parquet.read_table(out / f"{name}.parquet")
        for field in table.schema:
            assert set(field.metadata) >= {b"unit", b"provenance"}, f"{name}.{field.name}"
            assert re.match(rb"(measured|modelled|fake)\(.+\)$", field.metadata[b"provenance"])
        by_name = {"_s": b"s", "_c": b"C", "_w": b"W", "_j": b"J", "_us": b"us", "_ns": b"ns"}
        for field in table.schema:
            for end, unit in by_name.items():
                if field.name.endswith(end) and not field.name.endswith("per_s"):
                    assert field.metadata[b"unit"] == unit, f"{name}.{field.name}"
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        plain = pyarrow.csv.read_csv(out / f"{name}.csv", parse_options=options)
        assert plain.column_names == table.column_names
        assert plain.num_rows == table.num_rows > 0, name


def test_the_page_begins_with_provenance_and_loads_nothing(run: Finished) -> None:
    text = (run.folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.text[0] == run.metrics["provenance"]
    assert re.match(r"Measured: .+\. Modelled: .+\. Fake: .+\.$", page.text[0])
    assert page.loads == []
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", page.styles)
    assert "@import" not in text
    assert "power_w" in page.text[0].partition("Modelled:")[2]


def test_the_report_as_json_is_what_the_command_said(run: Finished) -> None:
    assert json.loads((run.folder / "report.json").read_text()) == run.metrics


def test_each_token_has_one_result_and_positions_are_contiguous(run: Finished, journal: OpenJournal) -> None:
    opened = journal(run.folder)
    tokens = _tokens(opened)
    seen = Counter((t.request, t.position) for t in tokens)
    assert set(seen.values()) == {1}
    began = [msgspec.json.decode(e.body, type=RequestBegan) for e in opened.entries("request_begin")]
    ended = [msgspec.json.decode(e.body, type=RequestEnded) for e in opened.entries("request_end")]
    assert [b.request for b in began] == list(range(1, len(began) + 1))
    assert Counter(e.request for e in ended) == Counter(b.request for b in began)
    by_request: dict[int, list[TokenArrived]] = defaultdict(list)
    for token in tokens:
        by_request[token.request].append(token)
    prompts = {b.request: len(b.prompt_tokens) for b in began}
    for end in ended:
        mine = by_request[end.request]
        assert [t.position for t in mine] == [prompts[end.request] + i for i in range(len(mine))]
        assert tuple(t.token for t in mine) == end.tokens
        assert [t.first for t in mine] == [i == 0 for i in range(len(mine))]
        assert end.reason != "length" or len(mine) == 24


def test_each_token_has_one_evidence_from_the_gateway_with_the_head(run: Finished, journal: OpenJournal) -> None:
    opened = journal(run.folder)
    heads = Counter((e.request, e.attempt, e.start + e.rows, e.token) for _, e in _evidence(opened) if e.token >= 0)
    for token in _tokens(opened):
        assert heads[token.request, token.attempt, token.position, token.token] == 1
    stages = Counter((node, e.request, e.attempt, e.start, e.layers[0].layer) for node, e in _evidence(opened))
    assert set(stages.values()) == {1}


def test_evidence_is_contiguous_from_one(run: Finished, journal: OpenJournal) -> None:
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for entry in journal(run.folder).entries():
        if entry.seq > 0:
            record = decode(entry.body, Record)
            assert (record.node, record.boot_id, record.seq) == (entry.node, entry.boot_id, entry.seq)
            numbers[entry.node, entry.boot_id].append(entry.seq)
    assert sorted(node for node, _ in numbers) == ["alpha", "bravo", "charlie", "delta"]
    for found in numbers.values():
        assert sorted(found) == list(range(1, len(found) + 1))


def _samples(run: Finished) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    table: pa.Table = pyarrow.parquet.read_table(run.folder / "export" / "samples.parquet")
    node = np.array(table["node"].to_pylist())
    found = {}
    for name in dict.fromkeys(node.tolist()):
        mine = node == name
        found[name] = {key: table[key].to_numpy()[mine] for key in ("mono_ns", "scenario_s", "power_w")}
    return found


def test_no_sample_is_missing(run: Finished, journal: OpenJournal) -> None:
    batches: dict[str, list[int]] = {}
    for entry in journal(run.folder).entries("samples"):
        body = decode(entry.body, Record).body
        assert isinstance(body, SampleBatch)
        assert all(len(values) == len(body.mono_ns) for values in body.columns.values())
        batches.setdefault(entry.node, []).append(len(body.mono_ns))
    # A second each, but for what was handed over when the run ended, and the rest of that second if there was time.
    assert all(sum(size != 10 for size in sizes) <= 2 and max(sizes) == 10 for sizes in batches.values())
    rows = {node: sum(sizes) for node, sizes in batches.items()}
    samples = _samples(run)
    assert {name: len(columns["mono_ns"]) for name, columns in samples.items()} == rows
    for columns in samples.values():
        gaps_s = np.diff(columns["mono_ns"]) / 1e9
        # A batch that was lost would leave more than a second; a busy machine delays single samples.
        assert 0.0 < gaps_s.min() <= gaps_s.max() < 1.0


def test_energy_is_the_trapezoid_of_the_exported_samples(run: Finished) -> None:
    samples = _samples(run)
    known = []
    for node in run.metrics["nodes"]:
        columns = samples[node["node"]]
        inside = (columns["scenario_s"] >= 0.0) & (columns["scenario_s"] <= 120.0)
        time_s = (columns["mono_ns"][inside] - columns["mono_ns"][inside][0]) / 1e9
        watts = columns["power_w"][inside]
        step_s = np.diff(time_s)
        if step_s.max() > GAP_PERIODS * 0.1:
            assert node["gross_j"] is None
            assert "gap" in node["energy_note"]
            continue
        gross = float((step_s * (watts[1:] + watts[:-1]) / 2).sum())
        assert node["gross_j"] == pytest.approx(gross, abs=2e-4)
        assert 25.0 < node["gross_j"] < 250.0  # 12 s at 2.7 W and more
        known.append(gross)
    if len(known) == 4:
        assert run.metrics["energy_gross_j"] == pytest.approx(sum(known), abs=1e-3)
        table: pa.Table = pyarrow.parquet.read_table(run.folder / "export" / "tokens.parquet")
        came_inside = int((table["scenario_s"].to_numpy() <= 120.0).sum())
        per_token = run.metrics["energy_gross_j"] / came_inside
        assert run.metrics["gross_j_per_token"] == pytest.approx(per_token, abs=1e-5)
    else:
        assert run.metrics["energy_gross_j"] is None


def test_no_expert_row_goes_to_a_node_that_is_out_of_service(run: Finished, journal: OpenJournal) -> None:
    opened = journal(run.folder)
    decisions = _decisions(opened)
    by_version = {decision.plan.version: decision for decision in decisions}
    out = [d.tick for d in decisions if not next(n for n in d.nodes if n.node == LEAVING).in_service]
    assert out, f"{LEAVING} never went out of service"
    assert out[0] > 0
    card_layers = len(decisions[0].plan.layers)
    after = 0
    for _, evidence in _evidence(opened):
        decision = by_version.get(evidence.plan_version)
        if decision is None:
            assert evidence.plan_version == 0  # the plan nodes were prepared with, before the first tick
            continue
        check_plan(decision.plan, card_layers, len(decision.plan.layers[0].price))
        after += decision.tick >= out[0]
        for layer in evidence.layers:
            for host in np.unique(np.frombuffer(layer.hosts, "<i2")):
                if host >= 0:
                    numbers = decision.nodes[host]
                    assert numbers.in_service, f"{numbers.node} at tick {decision.tick}"
                    assert numbers.alive
    assert after > 0


def test_the_twin_follows_from_the_recorded_power(run: Finished, journal: OpenJournal) -> None:
    opened = journal(run.folder)
    decisions = _decisions(opened)
    campaign = Campaign.model_validate_json(opened.meta("campaign"))
    twin = Twin(platform_of(campaign.twin.platform), 1.0)
    before = decisions[0]
    assert [n.temperature_c for n in before.nodes] == [46.0, 48.0, 50.0, 52.0]
    state = twin.start([n.temperature_c for n in before.nodes], [n.charge for n in before.nodes])
    for decision in decisions[1:]:
        step_s = decision.scenario_s - before.scenario_s
        assert step_s == pytest.approx(5.0)
        power = np.array([n.power_w if n.alive else 0.0 for n in decision.nodes])
        sent_j = np.array([n.transmit_j for n in decision.nodes]) - [n.transmit_j for n in before.nodes]
        state = twin.step(state, power, np.zeros(4), step_s, sent_j / (step_s / campaign.orbit.rate))
        assert [n.temperature_c for n in decision.nodes] == pytest.approx(state.temperature_c.tolist(), abs=1e-9)
        before = decision
    powers = {n.power_w for decision in decisions for n in decision.nodes}
    assert len(powers) > 10  # telemetry, not a constant


def test_its_figures_may_be_published(run: Finished, command: Command) -> None:
    """All checks pass that do not hang on how busy this machine was."""
    done = command("campaign", "verify", str(run.folder), "--json")
    outcomes = {check["name"]: check["outcome"] for check in json.loads(done.stdout)["checks"]}
    failed = {name for name, outcome in outcomes.items() if outcome == "fail"}
    assert failed <= {"telemetry gaps", "energy windows", "ticks", "clock offsets", "clock drift"}
    assert done.returncode == (10 if failed else 0)
    assert outcomes["model on boards"] == outcomes["agent versions"] == outcomes["replay"] == "pass"
