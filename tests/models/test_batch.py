"""One trunk call for several requests of different lengths gives each what it gets alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil_config.wire.manifest import ModelCard, Precision, read_manifest, read_shard
from models.build import build_shards
from models.session import open_shard
from tests.models.tiny_families import FAMILIES, save_model

# Another number of rows may take another matrix kernel, which adds in another order.
TOLERANCE = 2e-5
INT8_TOLERANCE = 2e-2
"""Where a value lies just between two activation codes, such an order decides which one it gets."""


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    save_model(request.param, folder / "checkpoint")
    build_shards(folder / "checkpoint", folder / "fp32", ("int4", "int8", "fp16", "fp32"))
    build_shards(folder / "checkpoint", folder / "int8", ("int8",), trunk_precision="int8")
    return folder


def requests(card: ModelCard, layer: int, lengths: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """A trunk call of one request for each (past, new) pair."""
    rng = np.random.default_rng(5)
    heads, key, value = card.cache_shape(layer)
    return [
        {
            "hidden": rng.standard_normal((new, card.hidden)).astype(np.float32),
            "past_key": rng.standard_normal((past, 1, heads, key)).astype(np.float32),
            "past_value": rng.standard_normal((past, 1, heads, value)).astype(np.float32),
            "position": np.arange(past, past + new)[None],
        }
        for past, new in lengths
    ]


def together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The same as one call: pasts and rows padded at the end, with numbers that would be noticed."""
    most_past = max(len(p["past_key"]) for p in parts)
    most_new = max(len(p["hidden"]) for p in parts)

    def padded(array: Any, axis: int, size: int, fill: float) -> Any:
        widths = [(0, 0)] * array.ndim
        widths[axis] = (0, size - array.shape[axis])
        return np.pad(array, widths, constant_values=fill)

    return {
        "hidden": np.concatenate([padded(p["hidden"], 0, most_new, 50.0) for p in parts]),
        "past_key": np.concatenate([padded(p["past_key"], 0, most_past, 50.0) for p in parts], axis=1),
        "past_value": np.concatenate([padded(p["past_value"], 0, most_past, 50.0) for p in parts], axis=1),
        "position": np.concatenate([padded(p["position"], 1, most_new, -1) for p in parts]),
    }


@pytest.mark.parametrize(
    "lengths", [[(7, 1), (0, 1), (31, 1), (7, 1)], [(0, 9), (12, 1), (3, 4)], [(5, 3)]], ids=["decode", "mixed", "one"]
)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_request_does_not_depend_on_who_shares_the_call(
    shards: Path, precision: Precision, lengths: list[tuple[int, int]]
) -> None:
    folder = shards / precision
    manifest = read_manifest(folder)
    tolerance = TOLERANCE if precision == "fp32" else INT8_TOLERANCE
    for layer in range(manifest.model.layers):
        shard = manifest.find("trunk", precision, layer)
        session = open_shard(shard, read_shard(folder, shard))
        names = [tensor.name for tensor in shard.outputs]
        parts = requests(manifest.model, layer, lengths)
        batch = dict(zip(names, session.run(names, together(parts)), strict=True))
        most_new = max(new for _, new in lengths)
        for row, (part, (_, new)) in enumerate(zip(parts, lengths, strict=True)):
            alone = dict(zip(names, session.run(names, part), strict=True))
            for name in names:
                inner = batch[name].shape[1 if batch[name].ndim == 2 else 2 :]
                mine = batch[name].reshape(len(parts), most_new, *inner)[row, :new]
                np.testing.assert_allclose(mine, alone[name].reshape(mine.shape), rtol=tolerance, atol=tolerance)
        assert all(np.isfinite(value).all() for value in batch.values()), "padding must not spoil anything"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_an_expert_row_does_not_depend_on_its_batch_mates(shards: Path, precision: Precision) -> None:
    """Every family and precision, the shared expert too. A scale shared with such large mates would drown the row."""
    manifest = read_manifest(shards / "fp32")
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((9, manifest.model.hidden)).astype(np.float32)
    mates = (rng.standard_normal(rows.shape) * 1000).astype(np.float32)
    for expert in (0, manifest.model.experts - 1):
        shard = manifest.find("expert", precision, 0, expert)
        session = open_shard(shard, read_shard(shards / "fp32", shard))
        alone = np.concatenate([session.run(None, {"x": row[None]})[0] for row in rows])
        mixed = session.run(None, {"x": np.stack((rows, mates), axis=1).reshape(-1, rows.shape[1])})[0][::2]
        np.testing.assert_allclose(mixed, alone, rtol=0, atol=1e-5)
