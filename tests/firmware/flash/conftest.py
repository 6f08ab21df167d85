"""A desk of a test's own."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_tools.state import State
from tests.firmware.flash.desk import SIZE, Bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = tmp_path / "board.img"
    image.write_bytes(random.Random(1).randbytes(SIZE))
    return Bench(tmp_path, image, tmp_path / "card.img", State(tmp_path / "bench.yaml"))


@pytest.fixture
def sha256() -> Callable[[Path], str]:
    return lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
