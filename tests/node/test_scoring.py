"""Teacher-forced scoring over several nodes gives what one process gives."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from hil_config.wire.frames import Cancel, most_rows
from models.architecture import Architecture, tensor_shapes
from models.build import build_shards
from models.evaluate import longest
from models.oracle import Oracle
from models.write_checkpoint import write_checkpoint
from node_agent.engine.trunk import open_trunk
from node_agent.shards.store import ShardStore
from tests.node.nodes import Bench, plain_plan


def test_log_probabilities_are_those_of_one_process(bench: Bench, reference_shards: Path) -> None:
    oracle = Oracle(reference_shards, "int8")
    tokens = [oracle.card.end_of_text, *range(300, 340), 17, 19, 23]
    got = bench.score(tokens)
    assert len(got) == len(tokens) - 1
    assert -np.mean(got) == pytest.approx(oracle.nll(tokens), abs=2e-3), "partial sums reorder additions only"
    assert not bench.tokens, "scoring generates nothing"


def test_a_long_text_is_scored_without_the_logits_of_all_of_it(reference_shards: Path) -> None:
    """2,000 tokens of a vocabulary of 150,000 took 3.6 GB of a gateway."""
    store, rng = ShardStore(reference_shards), np.random.default_rng(2)
    trunk, card = open_trunk(store, (store.manifest.model.layers - 1,)), store.manifest.model
    hidden = rng.standard_normal((250, card.hidden)).astype(np.float32)
    tokens = rng.integers(0, card.vocabulary, 250, np.int32)
    logits = np.concatenate([trunk._logits(row[None])[0] for row in hidden[:-1]]).astype(np.float64)
    wanted = logits[np.arange(249), tokens[1:]] - np.log(np.exp(logits).sum(axis=1))
    tracemalloc.start()
    try:
        found, _ = trunk.score(hidden, tokens)
        assert tracemalloc.get_traced_memory()[1] < logits.nbytes / 2
    finally:
        tracemalloc.stop()
    assert found.shape == (249,) and np.allclose(found, wanted, atol=2e-3)
    assert np.allclose(trunk.score(hidden[:66], tokens[:66])[0], wanted[:65], atol=2e-3)
    assert np.allclose(trunk.score(hidden[:2], tokens[:2])[0], wanted[:1], atol=2e-3)


def test_scoring_and_generating_share_the_nodes(bench: Bench) -> None:
    first = bench.score([0, 10, 11, 12], request=1)
    bench.send(Cancel(1, 1), "a")
    assert len(bench.generate([0, 10, 11, 12], 4, request=2)) == 4
    assert bench.score([0, 10, 11, 12], request=3) == first


def test_a_single_token_cannot_be_scored(bench: Bench) -> None:
    assert bench.score([5]) == []
    assert "nothing before it" in bench.refusals[0].reason


def test_a_text_that_no_frame_holds_is_refused_by_name_and_the_nodes_go_on(tmp_path: Path) -> None:
    wide = Architecture(
        vocabulary=32, hidden=1104, layers=2, heads=1, kv_heads=1, head_dim=8, experts=2, expert_width=8, top_k=1,
        context=4000,
    )  # fmt: skip
    weights = {name: np.ones(shape, np.float32) * 0.01 for name, shape in tensor_shapes(wide).items()}
    write_checkpoint(tmp_path / "checkpoint", wide, weights, "wide")
    manifest = build_shards(tmp_path / "checkpoint", tmp_path / "shards")
    most = longest(manifest.model)
    assert most == most_rows(1104) < wide.context, "evaluation texts are cut to what a frame holds"
    bench = Bench(tmp_path / "shards", ("a", "b"), copies=1, plan=plain_plan(manifest, ("a", "b"), 1), timeout_s=20.0)
    try:
        assert bench.score([1] * wide.context, request=1) == []
        assert bench.refusals[0].reason == f"a: 4000 rows in one step, a frame holds {most} of this model's width"
        bench.refusals.clear()
        assert len(bench.score([1] * most, request=2)) == most - 1
    finally:
        bench.close()
