"""Shards for node tests, and a bench of four nodes in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.identity import Authority, write_identity
from models.build import build_shards
from models.locate import reference_checkpoint
from tests.node.nodes import Bench


@pytest.fixture
def bench(reference_shards: Path) -> Iterator[Bench]:
    made = Bench(reference_shards)
    yield made
    made.close()


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with an identity each, of one authority: four nodes, a fifth that is in no run, and the client."""
    home = tmp_path_factory.mktemp("identities")
    authority = Authority.create("lab")
    for name in ("a", "b", "c", "d", "stranger", "client"):
        write_identity(home / name, authority.issue(name))
    return home


@pytest.fixture(scope="session")
def fp32_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fp32") / "reference"
    build_shards(reference_checkpoint(), out, ("fp32",))
    return out
