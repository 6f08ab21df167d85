"""How long something takes, as the benchmarks of short things see it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def median_us(work: Callable[[], object], rounds: int) -> float:
    """Median wall time of a call, in microseconds."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e6
