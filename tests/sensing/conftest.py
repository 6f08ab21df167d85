"""Shards for agents under test."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.build import build_shards
from models.locate import reference_checkpoint


@pytest.fixture(scope="session")
def reference_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "reference"
    build_shards(reference_checkpoint(), out, ("int8",))
    return out
