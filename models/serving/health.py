"""What a host's partial sums must be before they are counted: right shape, finite, of a size calibration has seen."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.manifest import ModelCard
from models.serving.dispatch import Ask

F32 = NDArray[np.float32]
CEILING_FACTOR = 100.0
"""Over the calibrated mean of ||w y||. Measured on the reference model, 43,528 picks of held-out text: 99.99 % stay
below 16 times the mean, the largest is 32 times."""


def ceilings(card: ModelCard, layer: int) -> F32 | None:
    """[E] largest believable ||w y|| of each expert: importance / activation is its calibrated mean where picked.

    Infinite for an expert that calibration never picked; None for a card without calibration (importance 1 for
    every expert, see models.importance.uniform).
    """
    activation = np.array(card.activation[layer], np.float64)
    importance = np.array(card.importance[layer], np.float64)
    if (importance == 1.0).all():
        return None
    mean = np.divide(importance, activation, out=np.full(card.experts, np.inf), where=activation > 0)
    return np.where(mean > 0, CEILING_FACTOR * mean, np.inf).astype(np.float32)


def reply_fault(ask: Ask, partial: F32, width: int, ceiling: F32 | None) -> str:
    """Why a reply [n, H] to `ask` must not be counted, or "". `ceiling` None: no calibration to compare with; that
    it is finite a frame's decoder has seen."""
    if partial.shape != (len(ask.rows), width):
        return f"shape {partial.shape}, wanted {(len(ask.rows), width)}"
    if ceiling is None:
        return ""
    square = np.einsum("ij,ij->i", partial, partial)
    if not math.isfinite(square.sum()):
        return "a value is not finite"
    allowed = np.array([sum(ceiling[item.expert] for item in items) for items in ask.rows.values()])
    worst = int((square - allowed**2).argmax())
    if square[worst] > allowed[worst] ** 2:
        return f"norm {float(square[worst]) ** 0.5:.3g}, calibration allows {float(allowed[worst]):.3g}"
    return ""
