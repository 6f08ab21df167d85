"""`hil models verify --against`: every family at every precision beside the original in transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hil_config.errors import DataFileError, UsageError
from hil_config.wire.manifest import Precision
from models.build import build_shards
from models.cli import models
from models.locate import reference_checkpoint
from models.parity import compare
from tests.models.tiny_families import FAMILIES, save_model

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")
EXACT = 5e-5
"""Largest difference of a logit at fp32: the order of additions."""
# Measured at most 2e-4 (fp16), 4e-3 (int8) and 4e-2 (int4) nats on random weights, which are the worst case: one
# flipped pick of a router moves a whole position.
KL_LIMIT = {"fp32": 1e-9, "fp16": 2e-3, "int8": 2e-2, "int4": 0.15}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_at_every_precision(family: str, tmp_path: Path) -> None:
    save_model(family, tmp_path / "c")
    build_shards(tmp_path / "c", tmp_path / "out", PRECISIONS)
    rows, source = compare(tmp_path / "out", tmp_path / "c", 128)
    assert [row.precision for row in rows] == list(PRECISIONS) and source == "random tokens"
    assert rows[0].max_difference < EXACT and rows[0].same_top == 1.0
    for row in rows:
        assert row.kl < KL_LIMIT[row.precision], row
        assert row.tokens == 128
    assert rows[0].perplexity == pytest.approx(rows[0].original_perplexity, rel=1e-6)
    assert rows[0].kl < rows[2].kl < rows[3].kl, "fewer bits, further away"


def test_texts_to_compare_over_end_with_the_context(tmp_path: Path) -> None:
    """Beyond it transformers takes PhiMoE's long factors: another model."""
    save_model("phimoe", tmp_path / "c")
    manifest = build_shards(tmp_path / "c", tmp_path / "out", ("fp32",))
    assert manifest.model.context == 200
    ((row,), _) = compare(tmp_path / "out", tmp_path / "c", 1000)
    assert row.max_difference < EXACT and row.tokens == 1000


def run(*arguments: str) -> Any:
    return CliRunner().invoke(models, ["verify", *arguments])


def test_the_reference_model_in_numbers(tmp_path: Path) -> None:
    build_shards(reference_checkpoint(), tmp_path / "out", ("fp32", "int8"))
    result = run(str(tmp_path / "out"), "--against", str(reference_checkpoint()), "--tokens", "600", "--json")
    assert result.exit_code == 0, result.output
    fp32, int8 = json.loads(result.stdout)["parity"]["rows"]
    assert fp32["max_difference"] < EXACT and fp32["same_top"] == 1.0
    assert int8["same_top"] > 0.95 and int8["kl"] < 0.01
    assert int8["perplexity"] == pytest.approx(int8["original_perplexity"], rel=0.01)
    table = run(str(tmp_path / "out"), "--against", str(reference_checkpoint()), "--tokens", "200")
    assert "held-out texts" in table.stdout and "int8" in table.stdout and "are as the manifest says" in table.stdout


def test_comparing_with_another_model_is_refused(tmp_path: Path) -> None:
    save_model("mixtral", tmp_path / "c")
    build_shards(reference_checkpoint(), tmp_path / "out", ("int8",))
    with pytest.raises(DataFileError, match="vocabulary 96"):
        compare(tmp_path / "out", tmp_path / "c", 64)
    with pytest.raises(UsageError, match="at least 8"):
        compare(tmp_path / "out", tmp_path / "c", 1)
