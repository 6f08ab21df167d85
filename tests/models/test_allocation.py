"""The allocation file: what the command writes the campaign reads, and what does not fit is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hil_config.errors import DataFileError
from models.allocation import read_allocation
from models.build import model_card
from models.checkpoint import read_checkpoint
from models.locate import reference_checkpoint

GOOD: dict[str, Any] = {
    "unit": "bytes", "budget": 1.0, "weight": 1.0, "nats": 0.0, "gap": 0.0, "counts": {},
    "precision": [["int8"] * 8 + ["int4"] * 7 + ["drop"]] * 4,
}  # fmt: skip


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "allocation.json"
    path.write_text(json.dumps({**GOOD, **changes}))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    card = model_card(read_checkpoint(reference_checkpoint()))
    found = read_allocation(write(tmp_path), card)
    assert found.precisions() == ("int8", "int4")
    assert (found.of(0, 0), found.of(3, 14), found.of(2, 15)) == ("int8", "int4", None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": [["int8"] * 16] * 3}, "3 layers, the model has 4 of 16"),
        ({"precision": [["int8"] * 15] * 4}, "the model has 4 of 16"),
        ({"precision": [["int8"] * 15 + ["int3"]] * 4}, "layer 0: got .*int3"),
        ({"precision": [["int8"] * 16, ["drop"] * 16] * 2}, "layer 1: every expert is dropped"),
        ({"precision": "int8"}, "not an allocation"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    card = model_card(read_checkpoint(reference_checkpoint()))
    with pytest.raises(DataFileError, match=message):
        read_allocation(write(tmp_path, **changes), card)
