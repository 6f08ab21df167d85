"""Shards and a supervisor for agents under test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.build import build_shards
from models.locate import reference_checkpoint
from tests.sensing.agents import Supervisor


@pytest.fixture(scope="session")
def reference_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "reference"
    build_shards(reference_checkpoint(), out, ("int8",))
    return out


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    made.close()
