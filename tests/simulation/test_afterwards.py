"""The evaluation set of a simulated run: read by the real model under the plans that the run recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ground_controller.core import Core
from ground_controller.preparation import Prepared, prepare
from ground_controller.replay import replay_run
from ground_controller.report.metrics import Metrics, measure
from ground_controller.simulation.afterwards import due
from ground_controller.simulation.run import simulate
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import default_path, load_bench, load_campaign
from models.oracle import Oracle
from models.planned import PlannedModel

TEXT = list(range(5, 120))


def _prepared(evaluation: Path | None = None, temperature_c: float = 45.0, **policies: Any) -> Prepared:
    intent = load_campaign(default_path("campaign")).model_dump()
    intent["orbit"] |= {"duration_s": 20.0, "max_range_km": 5_016.0}
    intent["twin"] |= {"start": tuple({"temperature_c": temperature_c, "charge": 0.7} for _ in range(4))}
    intent["workload"] |= {"max_new_tokens": 4, "evaluation": str(evaluation) if evaluation else "none"}
    intent["policies"] |= policies
    return prepare(load_bench(default_path("bench")), Campaign.model_validate(intent))


def test_items_are_spread_evenly() -> None:
    assert due(4, 8) == {1: [0], 3: [1], 5: [2], 7: [3]}
    assert due(5, 2) == {0: [0, 1], 1: [2, 3, 4]}


def test_under_plain_top_k_it_is_the_model() -> None:
    prepared = _prepared(selection={"name": "topk"})
    plan = Core(prepared.setting, prepared.policy, 1, 5.0).advance(-1, 0.0, []).plan
    plain = Oracle(prepared.shards, "int8").nll(TEXT)
    losses = {}
    for codec in (None, "fp16", "int4"):
        link = None if codec is None else (lambda _a, _b, codec=codec: codec)
        model = PlannedModel(prepared.shards, prepared.setting.further.held, link)
        model.under(plan, np.ones(4, np.bool_), 1)
        losses[codec] = model.nll(TEXT)
    assert losses[None] == pytest.approx(plain, abs=1e-6)
    assert losses["fp16"] == pytest.approx(plain, abs=1e-2)
    assert abs(losses["int4"] - plain) > 1e-3
    model.under(plan, np.array([True, False, False, False]), 1)  # a quarter of the replicas: other experts serve
    assert model.nll(TEXT) > plain


@pytest.fixture(scope="module")
def short_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation") / "short.json"
    texts = "In the beginning God created the heaven and the earth. And the earth was without form, and void."
    path.write_text(
        json.dumps(
            {
                "texts": {"scripture": [texts, texts[20:]]},
                "cloze": [
                    {
                        "domain": "scripture",
                        "context": "In the beginning",
                        "answer": 0,
                        "choices": [" God created", " zz9 qq"],
                    }
                ],
            }
        )
    )
    return path


def _metrics(folder: Path, prepared: Prepared) -> Metrics:
    simulate(prepared, folder)
    assert replay_run(folder).mismatches == 0
    return measure(folder)


def test_a_simulated_campaign_tells_its_perplexity(short_set: Path, tmp_path: Path) -> None:
    """Hot boards give experts away, and that is seen in the text."""
    cool = _metrics(tmp_path / "cool", _prepared(short_set, selection={"name": "topk"}))
    hot = _metrics(
        tmp_path / "hot",
        _prepared(short_set, 58.0, selection={"name": "lyapunov", "options": {"price_cap": 0.6}}),
    )  # fmt: skip
    for metrics in (cool, hot):
        assert metrics.evaluation is not None
        assert "read after the run" in metrics.evaluation.note
        assert metrics.evaluation.questions == 1
        (perplexity,) = [one for one in metrics.answers if one.name == "perplexity"]
        assert perplexity.kind == "modelled"
    assert cool.evaluation is not None and hot.evaluation is not None
    assert abs(cool.evaluation.nats_delta or 1.0) < 0.1
    assert (hot.evaluation.nats_delta or 0.0) > (cool.evaluation.nats_delta or 0.0) + 0.02
