"""Checkpoints and shard folders, built once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.architecture import Architecture, tensor_shapes
from models.build import build_shards
from models.locate import reference_checkpoint
from models.write_checkpoint import write_checkpoint

# Sizes that differ from each other, so that a swapped dimension shows; 40 inputs leave a part-filled block.
TINY = Architecture(
    vocabulary=160, hidden=64, layers=3, heads=6, kv_heads=2, head_dim=16, experts=8, expert_width=40,
    top_k=2, context=128, end_of_text=0,
)  # fmt: skip


def _random_checkpoint(folder: Path, seed: int = 1) -> Path:
    rng = np.random.default_rng(seed)
    weights = {
        name: (rng.standard_normal(shape) * shape[-1] ** -0.5 + (len(shape) == 1)).astype(np.float32)
        for name, shape in tensor_shapes(TINY).items()
    }
    write_checkpoint(folder, TINY, weights, "tiny")
    return folder


@pytest.fixture(scope="session")
def architecture() -> Architecture:
    return TINY


@pytest.fixture
def make_checkpoint() -> Callable[..., Path]:
    """Writes a small random checkpoint into a folder; made with numpy alone."""
    return _random_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _random_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="session")
def tiny_shards(tiny_checkpoint: Path) -> Path:
    """The tiny model's shards, experts at both precisions. Read only."""
    out = tiny_checkpoint.parent / "shards"
    build_shards(tiny_checkpoint, out, ("int8", "fp32"))
    return out


@pytest.fixture(scope="session")
def reference_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model's shards, experts at both precisions. Read only."""
    out = tmp_path_factory.mktemp("reference") / "shards"
    build_shards(reference_checkpoint(), out, ("int8", "fp32"))
    return out
