"""The order of a matrix's runs: randomised complete blocks.

A block holds every variant once, under one seed, in an order drawn for it: what drifts (a warming room, an ageing
battery) meets all variants alike (R. A. Fisher, "The Arrangement of Field Experiments", 1926). The draws depend on
the order's seed and the block's number alone, so that further blocks leave earlier ones as they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np


class Cell(msgspec.Struct, frozen=True):
    """One run. `block` 0 is the warm-up, which does not count. `name` is its folder below the campaign's."""

    name: str
    variant: str
    seed: int
    repeat: int
    block: int


def blocks_of(seeds: Sequence[int], repeats: int, order_seed: int) -> list[tuple[int, int]]:
    """(seed, repeat) of each block: repeat after repeat, the seeds of each in an order of its own."""
    found = []
    for repeat in range(1, repeats + 1):
        drawn = np.random.default_rng([order_seed, 0, repeat]).permutation(len(seeds))
        found += [(seeds[i], repeat) for i in drawn]
    return found


def block(number: int, variants: Sequence[str], seed: int, repeat: int, order_seed: int) -> list[Cell]:
    """The runs of block `number` (from 1)."""
    drawn = np.random.default_rng([order_seed, 1, number]).permutation(len(variants))
    below = f"s{seed}" if repeat == 1 else f"again/s{seed}-r{repeat}"
    return [Cell(f"{variants[i]}/{below}", variants[i], seed, repeat, number) for i in drawn]


def cells(variants: Sequence[str], seeds: Sequence[int], repeats: int, order_seed: int, warm_up: int) -> list[Cell]:
    """Warm-up and all blocks, in the order in which they are to run."""
    found: list[Cell] = []
    for number, (seed, repeat) in enumerate(blocks_of(seeds, repeats, order_seed), 1):
        found += block(number, variants, seed, repeat, order_seed)
    warm = [Cell(f"warm-up/{n}", found[0].variant, found[0].seed, n, 0) for n in range(1, warm_up + 1)]
    return warm + found


def next_seed(seeds: Sequence[int]) -> int:
    """Of a further block: above all that were used."""
    return (max(seeds) + 1) % 2**32
