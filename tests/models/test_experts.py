"""Expert shards alone: rows are independent of each other, and int8 is close to fp32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hil_config.wire.manifest import Precision, Routing, read_manifest, read_shard
from models.checkpoint import read_checkpoint
from models.oracle import route
from models.session import open_shard

# A row alone and a row in a batch may take different kernels, which add in another order.
BATCH_TOLERANCE = {"fp32": 1e-6, "int8": 1e-6}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_row_does_not_depend_on_its_batch_mates(tiny_shards: Path, precision: Precision) -> None:
    shard = read_manifest(tiny_shards).find("expert", precision, 1, 4)
    session = open_shard(shard, read_shard(tiny_shards, shard))
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((33, 64)).astype(np.float32)
    mates = (rng.standard_normal((33, 64)) * 1000).astype(np.float32)  # a shared scale would drown the row
    alone = np.concatenate([session.run(None, {"x": row[None]})[0] for row in rows])
    together = session.run(None, {"x": rows})[0]
    mixed = session.run(None, {"x": np.stack((rows, mates), axis=1).reshape(66, 64)})[0][::2]
    np.testing.assert_allclose(together, alone, rtol=0, atol=BATCH_TOLERANCE[precision])
    np.testing.assert_allclose(mixed, alone, rtol=0, atol=BATCH_TOLERANCE[precision])


def test_fp32_expert_is_a_swiglu_network_of_the_checkpoints_weights(tiny_shards: Path, tiny_checkpoint: Path) -> None:
    shard = read_manifest(tiny_shards).find("expert", "fp32", 2, 7)
    session = open_shard(shard, read_shard(tiny_shards, shard))
    expert = read_checkpoint(tiny_checkpoint).expert(2, 7)
    x = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)
    inner = x @ expert.gate.T
    wanted = (inner / (1 + np.exp(-inner)) * (x @ expert.up.T)) @ expert.down.T
    np.testing.assert_allclose(session.run(None, {"x": x})[0], wanted, rtol=0, atol=1e-5)


def test_int8_expert_is_close_to_fp32(tiny_shards: Path) -> None:
    manifest = read_manifest(tiny_shards)
    x = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)
    exact, rounded = (
        open_shard(shard, read_shard(tiny_shards, shard)).run(None, {"x": x})[0]
        for shard in (manifest.find("expert", "fp32", 0, 0), manifest.find("expert", "int8", 0, 0))
    )
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 0 < error < 0.02


def test_route_breaks_ties_towards_the_lower_expert() -> None:
    picks, weights = route(np.array([[0.25, 0.25, 0.25, 0.25]], dtype=np.float32), Routing(2, True))
    assert picks.tolist() == [[0, 1]]
    assert weights.tolist() == [[0.5, 0.5]]


def test_route_without_normalising_keeps_the_scores() -> None:
    picks, weights = route(np.array([[0.1, 0.6, 0.3]], dtype=np.float32), Routing(2, False))
    assert picks.tolist() == [[1, 2]]
    np.testing.assert_array_equal(weights, np.array([[0.6, 0.3]], dtype=np.float32))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_low_rank_delta_fed_to_one_run_acts_on_that_run_alone(
    tiny_shards: Path, tiny_checkpoint: Path, precision: Precision
) -> None:
    shard = read_manifest(tiny_shards).find("expert", precision, 0, 3)
    session = open_shard(shard, read_shard(tiny_shards, shard))
    hidden, width = 64, read_checkpoint(tiny_checkpoint).architecture.expert_width
    rng = np.random.default_rng(2)
    x = rng.standard_normal((7, hidden)).astype(np.float32)
    sizes = {"delta_gate_up_a": (hidden, 4), "delta_gate_up_b": (4, 2 * width), "delta_y_a": (width, 4),
             "delta_y_b": (4, hidden)}  # fmt: skip
    delta = {name: rng.standard_normal(shape).astype(np.float32) * 0.1 for name, shape in sizes.items()}
    before = session.run(None, {"x": x})[0]
    adapted = session.run(None, {"x": x, **delta})[0]
    assert np.array_equal(session.run(None, {"x": x})[0], before), "the next run is without it, bit for bit"
    expert = read_checkpoint(tiny_checkpoint).expert(0, 3)
    low = x @ delta["delta_gate_up_a"] @ delta["delta_gate_up_b"]
    first, second = x @ expert.gate.T + low[:, :width], x @ expert.up.T + low[:, width:]
    inner = first / (1 + np.exp(-first)) * second
    wanted = inner @ expert.down.T + inner @ delta["delta_y_a"] @ delta["delta_y_b"]
    assert np.abs(wanted - before).max() > 0.1, "the delta must be large enough to be seen"
    np.testing.assert_allclose(adapted, wanted, rtol=0, atol={"fp32": 1e-4, "int8": 0.15}[precision])
