"""Shards for node tests, and a bench of four nodes in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.build import build_shards
from models.locate import reference_checkpoint
from tests.node.nodes import Bench


@pytest.fixture(scope="session")
def reference_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "reference"
    build_shards(reference_checkpoint(), out, ("int8",))
    return out


@pytest.fixture
def bench(reference_shards: Path) -> Iterator[Bench]:
    made = Bench(reference_shards)
    yield made
    made.close()
