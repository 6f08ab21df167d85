"""Tokens a second of a gateway and two hosts at 1, 4 and 16 requests at once, against one request alone."""

from __future__ import annotations

import numpy as np

from benchmarks.dataplane import Fleet
from benchmarks.shapes import SMALL, prepare_shards

TOKENS, SERIES = 24, 5
CROWDS = (1, 4, 16)


def _rate(fleet: Fleet, first: int, crowd: int) -> float:
    """Tokens a second of `crowd` generations begun together, from the first token of all to the last of all."""
    for n in range(crowd):
        fleet.begin(first + n, [5 + n], TOKENS)
    times = [fleet.wait(first + n, TOKENS) for n in range(crowd)]
    for n in range(crowd):
        fleet.forget(first + n)
    return crowd * (TOKENS - 1) / (max(t[-1] for t in times) - min(t[0] for t in times))


def run() -> None:
    """The small shape at int4; each line is one crowd, with how many steps shared a trunk step and its calls."""
    fleet = Fleet(prepare_shards(SMALL), ("g",), ("h1", "h2"), 1, 1)
    try:
        _rate(fleet, 0, 2)
        rates: dict[int, list[float]] = {crowd: [] for crowd in CROWDS}
        shared: dict[int, float] = {}
        for series in range(SERIES):
            for crowd in CROWDS:
                fleet.take_steps("g")
                rates[crowd].append(_rate(fleet, 10_000 * (series + 1) + 100 * crowd, crowd))
                _, batches, steps, _ = fleet.take_steps("g")
                shared[crowd] = steps / batches
        middle = {crowd: float(np.median(found)) for crowd, found in rates.items()}
        for crowd in CROWDS:
            print(
                f"{crowd:2d} at once: {middle[crowd]:.1f} tokens/s, {middle[crowd] / middle[1]:.2f} x one at a time; "
                f"{shared[crowd]:.1f} steps a batch (median of {SERIES} interleaved series)"
            )
    finally:
        fleet.close()
