"""What a partial sum must be before it is counted."""

from __future__ import annotations

import numpy as np
import pytest

from hil_config.wire.manifest import ModelCard, Routing
from models.serving.dispatch import Ask, Item
from models.serving.health import CEILING_FACTOR, ceilings, reply_fault

CARD = ModelCard(
    "m", 1, 3, 4, 8, 10, 1, 4, 16, 0, Routing(2, True), ((0.5, 0.25, 0.0),), ((1.0, 0.25, 0.0),)
)  # fmt: skip
ASK = Ask(1, 0, {0: [Item(0, 0, 0, 1.0), Item(0, 1, 1, 1.0)], 2: [Item(2, 0, 1, 1.0)]})


def test_ceilings_follow_calibration_where_there_is_any() -> None:
    found = ceilings(CARD, 0)
    assert found is not None and found.tolist() == [CEILING_FACTOR * 2, CEILING_FACTOR * 1, np.inf]
    flat = ModelCard("m", 1, 3, 4, 8, 10, 1, 4, 16, 0, Routing(2, True), ((0.7, 0.7, 0.6),), ((1.0, 1.0, 1.0),))
    assert ceilings(flat, 0) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((0, 0, np.nan), "not finite"),
        ((1, 3, np.inf), "not finite"),
        ((0, 0, CEILING_FACTOR * 3.01), "calibration allows"),
        ((1, 0, -CEILING_FACTOR * 1.01), "calibration allows"),
    ],
)
def test_bad_sums_are_named(change: tuple[int, int, float], words: str) -> None:
    partial = np.zeros((2, 4), np.float32)
    ceiling = ceilings(CARD, 0)
    assert reply_fault(ASK, partial, 4, ceiling) == ""
    row, column, value = change
    partial[row, column] = value
    assert words in reply_fault(ASK, partial, 4, ceiling)


def test_another_shape_is_named_and_an_uncalibrated_expert_may_be_large() -> None:
    assert "shape (1, 4), wanted (2, 4)" in reply_fault(ASK, np.zeros((1, 4), np.float32), 4, None)
    third = ASK._replace(rows={0: [Item(0, 0, 2, 1.0)], 2: [Item(2, 0, 1, 1.0)]})
    partial = np.array([[1e9, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    assert reply_fault(third, partial, 4, ceilings(CARD, 0)) == ""
