"""How much each expert matters: how often it is picked, and how large its contribution is.

`activation[layer][expert]` is the share of calibration tokens that picked the expert (rows sum to top_k);
`importance[layer][expert]` is the mean of ||w y|| over all calibration tokens (0 where it was not picked).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hil_config.errors import DataFileError

Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ExpertStatistics:
    """Both tables, [layers][experts]."""

    activation: Table
    importance: Table


class Sizes(Protocol):
    """What the tables' shapes depend on; always-on experts are the last and counted in `experts` and `top_k`."""

    @property
    def layers(self) -> int: ...
    @property
    def experts(self) -> int: ...
    @property
    def top_k(self) -> int: ...
    @property
    def always_on(self) -> int: ...


class Counter:
    """Adds up picks and contribution norms; pass `observe` to an Oracle."""

    def __init__(self, layers: int, experts: int) -> None:
        self.tokens = np.zeros(layers, dtype=np.int64)
        self.picked = np.zeros((layers, experts), dtype=np.int64)
        self.norms = np.zeros((layers, experts), dtype=np.float64)

    def observe(self, layer: int, picks: npt.NDArray[np.int64], norms: npt.NDArray[np.float32]) -> None:
        """Picks [T, k] and ||w y|| [T, k] of one layer's pass over T tokens."""
        self.tokens[layer] += len(picks)
        experts = self.picked.shape[1]
        self.picked[layer] += np.bincount(picks.ravel(), minlength=experts)
        self.norms[layer] += np.bincount(picks.ravel(), weights=norms.ravel(), minlength=experts)

    def statistics(self) -> ExpertStatistics:
        if not self.tokens.all():
            raise DataFileError("calibration: got a layer without tokens, wanted text", "give calibration text")
        count = self.tokens[:, None]
        return ExpertStatistics(_table(self.picked / count), _table(self.norms / count))


def uniform(a: Sizes) -> ExpertStatistics:
    """What is assumed of a checkpoint that carries no calibration: every expert alike, importance 1."""
    routed = a.experts - a.always_on
    share = np.full((a.layers, a.experts), (a.top_k - a.always_on) / routed)
    share[:, routed:] = 1.0
    return ExpertStatistics(_table(share), _table(np.ones_like(share)))


def from_training(values: dict[str, Any], a: Sizes, where: str) -> ExpertStatistics:
    """The tables stored in training.json, or uniform ones where it has none."""
    if "activation" not in values and "importance" not in values:
        return uniform(a)
    tables = []
    for key in ("activation", "importance"):
        try:
            table = np.array(values.get(key), dtype=np.float64)
        except (TypeError, ValueError):
            table = np.zeros(0)
        if table.shape != (a.layers, a.experts) or not np.isfinite(table).all() or (table < 0).any():
            raise DataFileError(
                f"{where}: {key}: got shape {table.shape}, wanted {(a.layers, a.experts)} numbers >= 0",
                "measure it again, or leave both tables out",
            )
        tables.append(_table(table))
    return ExpertStatistics(*tables)


def _table(values: npt.NDArray[np.float64]) -> Table:
    """Rounded to 6 digits so that the manifest stays readable and equal between machines."""
    return tuple(tuple(round(float(value), 6) for value in row) for row in values)
