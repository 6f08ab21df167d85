"""The gate's picks as plain values, for whoever looks at them one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.serving.layer_gate import Picks, RowPicks


class PickTable(NamedTuple):
    """Picks of `rows` rows, K a row, row after row. `reserves(row)`: (expert, weight) of that row's reserves."""

    rows: int
    experts: list[int]
    weights: list[float]
    hosts: list[int]
    reserves: Callable[[int], list[tuple[int, float]]]


def table_of(picks: Picks | RowPicks) -> PickTable:
    """The same picks."""
    if isinstance(picks, RowPicks):
        return PickTable(1, picks.experts, picks.weights, picks.hosts, partial(_reserves_of_row, picks))
    return PickTable(
        len(picks.experts), picks.experts.ravel().tolist(), picks.weights.ravel().tolist(),
        picks.hosts.ravel().tolist(), partial(reserves_of, picks),
    )  # fmt: skip


def share_of_picks(picks: PickTable, mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """[T] mixing masses as shares of what each row's picks have together; 1 for a row that picked nothing."""
    picked = np.array(picks.weights, np.float64).reshape(picks.rows, -1).sum(axis=1)
    share: NDArray[np.float64] = np.divide(mass, picked, out=np.ones(picks.rows), where=picked > 0.0)
    return share


def reserves_of(picks: Picks, row: int) -> list[tuple[int, float]]:
    """(expert, weight) of one row's reserves."""
    return list(zip(picks.reserves[row].tolist(), picks.reserve_weights[row].tolist(), strict=True))


def _reserves_of_row(picks: RowPicks, row: int) -> list[tuple[int, float]]:
    return list(zip(picks.reserves, picks.reserve_weights, strict=True))


def part_of(picks: Picks, first: int, end: int) -> Picks:
    """Rows [first, end)."""
    rows = slice(first, end)
    return Picks(
        picks.experts[rows], picks.hosts[rows], picks.weights[rows], picks.reserves[rows],
        picks.reserve_weights[rows], picks.kept[rows], picks.rerouted[rows],
    )  # fmt: skip
