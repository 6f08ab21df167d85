"""The path of the large-model soak (`make soak`) on a small model: random bf16 files with an index, child processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak.large_model import Shape, programme


def test_a_small_model_takes_the_same_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    programme(tmp_path, Shape(layers=2, hidden=64, experts=8, width=32, top_k=2, heads=4, vocabulary=128))
    said = capsys.readouterr().out
    assert "build int8 and int4" in said and "int4, experts" in said and "GB resident" in said
