"""The evaluation set goes through the nodes while prompts are served; the report has accuracy beside energy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from ground_controller.decision import Decision
from ground_controller.evaluation import FIRST_REQUEST, TextScored
from ground_controller.journal import Journal
from models.evaluate import read_evaluation
from models.locate import reference_checkpoint

Command = Callable[..., subprocess.CompletedProcess[str]]

if TYPE_CHECKING:
    from tests.campaign.conftest import Starter


@pytest.fixture
def short_set(tmp_path: Path) -> Path:
    """Two texts and four questions a domain: scored wholly within a short campaign."""
    full = read_evaluation(reference_checkpoint() / "evaluation.json")
    asked = {d: [q for q in full.cloze if q.domain == d][:4] for d in full.texts}
    short = {
        "texts": {domain: texts[:2] for domain, texts in full.texts.items()},
        "cloze": [msgspec.structs.asdict(q) for questions in asked.values() for q in questions],
    }
    path = tmp_path / "short.json"
    path.write_text(json.dumps(short))
    return path


def test_a_campaign_reports_accuracy_beside_energy(starter: Starter, short_set: Path) -> None:
    done = starter.start(
        "topk", orbit__duration_s=150, policies__selection__name="topk", workload__evaluation=str(short_set),
        workload__concurrency=8,
    ).wait()  # fmt: skip
    assert done.code == 0, done.errors
    found = done.metrics["evaluation"]
    assert found["note"].startswith("90 of 90 items") and found["questions"] == 20
    assert set(found["perplexity"]) == set(found["perplexity_full"]) == set(found["accuracy"])
    for domain, value in found["perplexity"].items():
        assert value == pytest.approx(found["perplexity_full"][domain], rel=0.5), domain
    assert abs(found["nats_delta"]) < 0.15
    assert done.metrics["energy_gross_j"] > 0 and done.metrics["tokens"] > 0
    assert any("scoring the evaluation set" in line for line in done.metrics["not_measured"])
    assert done.replay()["mismatches"] == 0
    assert "<h2>Evaluation</h2>" in (done.folder / "report.html").read_text()
    journal = Journal.read(done.folder)
    scored = [msgspec.json.decode(entry.body, type=TextScored) for entry in journal.entries("text_scored")]
    journal.close()
    assert sorted(one.request - FIRST_REQUEST for one in scored) == list(range(90))
    assert all(max(one.logprobs) <= 0 for one in scored)


def test_without_an_evaluation_the_report_says_nothing_of_it(starter: Starter) -> None:
    done = starter.start("plain", orbit__duration_s=40).wait()
    assert done.code == 0, done.errors
    assert done.metrics["evaluation"] is None
    assert "<h2>Evaluation</h2>" not in (done.folder / "report.html").read_text()


def test_a_campaign_serves_the_precisions_a_budget_chose(starter: Starter, tmp_path: Path, command: Command) -> None:
    """Budget, allocation, campaign: dropped experts are on no board, the others at the precision chosen."""
    shards, allocation = tmp_path / "shards", tmp_path / "allocation.json"
    assert command("models", "build", "--out", str(shards)).returncode == 0
    chosen = command("models", "budget", str(shards), "--bytes", "2MB", "--out", str(allocation), "--json")
    assert chosen.returncode == 0, chosen.stderr
    table = json.loads(chosen.stdout)["precision"]
    dropped = {(layer, e) for layer, row in enumerate(table) for e, name in enumerate(row) if name == "drop"}
    assert dropped and {name for row in table for name in row} > {"drop"}
    done = starter.start("spent", orbit__duration_s=60, model__allocation=str(allocation)).wait()
    assert done.code == 0, done.errors
    assert done.metrics["tokens"] > 20 and done.replay()["mismatches"] == 0
    journal = Journal.read(done.folder)
    try:
        plans = [msgspec.json.decode(entry.body, type=Decision).plan for entry in journal.entries("decision")]
        for plan in plans:
            for layer, entry in enumerate(plan.layers):
                assert all(not entry.hosts[e] for at, e in dropped if at == layer)
    finally:
        journal.close()
