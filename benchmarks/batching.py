"""Tokens a second of a gateway and two hosts at 1, 4 and 16 requests at once, against one request alone."""

from __future__ import annotations

import numpy as np

from benchmarks.dataplane import Fleet
from benchmarks.shapes import OLMOE_4, SMALL, Shape, prepare_shards

TOKENS, SERIES = 24, 5
CROWDS = (1, 4, 16)
BLOCK = 128
CASES = ((SMALL, 1), (SMALL, 300), (OLMOE_4, 1))
"""Shape, and tokens of each prompt."""


def _rate(fleet: Fleet, first: int, crowd: int, prompt: int) -> float:
    """Tokens a second of `crowd` generations begun together, while all of them are being made."""
    for n in range(crowd):
        fleet.begin(first + n, [5 + (n + i) % 1000 for i in range(prompt)], TOKENS)
    times = [fleet.wait(first + n, TOKENS) for n in range(crowd)]
    for n in range(crowd):
        fleet.forget(first + n)
    begin_s, end_s = max(t[0] for t in times), min(t[-1] for t in times)
    return sum(begin_s < s <= end_s for t in times for s in t) / (end_s - begin_s)


def _case(shape: Shape, prompt: int) -> None:
    fleet = Fleet(prepare_shards(shape, BLOCK), ("g",), ("h1", "h2"), 2, own_cores=True)
    try:
        _rate(fleet, 0, 2, prompt)
        rates: dict[int, list[float]] = {crowd: [] for crowd in CROWDS}
        shared: dict[int, float] = {}
        for series in range(SERIES):
            for crowd in CROWDS:
                fleet.take_steps("g")
                rates[crowd].append(_rate(fleet, 10_000 * (series + 1) + 100 * crowd, crowd, prompt))
                _, batches, steps, _ = fleet.take_steps("g")
                shared[crowd] = steps / batches
        middle = {crowd: float(np.median(found)) for crowd, found in rates.items()}
        for crowd in CROWDS:
            print(
                f"{shape.name}, prompts of {prompt}, {crowd:2d} at once: {middle[crowd]:.1f} tokens/s, "
                f"{middle[crowd] / middle[1]:.2f} x one at a time; {shared[crowd]:.1f} steps a batch "
                f"(median of {SERIES} interleaved series)"
            )
    finally:
        fleet.close()


def run() -> None:
    """int4, two hosts that hold all experts; each line is one crowd, with how many steps shared a trunk step."""
    for shape, prompt in CASES:
        _case(shape, prompt)
