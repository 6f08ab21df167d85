"""Plans drawn at random, and the supplied files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ground_controller.formats.plan import Contact, ContactPlan, build_plan

DATA = Path(__file__).parents[1] / "data"


def drawn_plan(seed: int, *, numbers: bool, two_way: bool, whole: bool, epoch: bool) -> ContactPlan:
    """A plan without overlaps; `whole`: only values that ION and HDTN can say."""
    rng = np.random.default_rng(seed)
    names = [str(n) if numbers else f"SAT-{n}" for n in range(1, 6)]
    contacts = []
    for _ in range(int(rng.integers(1, 8))):
        a, b = rng.permutation(5)[:2]
        t = 0.0
        for _ in range(int(rng.integers(1, 4))):
            start = t + float(rng.integers(0, 50)) * (1.0 if whole else 0.5)
            t = start + float(rng.integers(1, 100)) * (1.0 if whole else 0.25)
            rate = float(rng.integers(1, 10**7)) * 8.0 if whole else float(rng.uniform(1, 1e9))
            delay = float(rng.integers(0, 400)) if whole else float(rng.uniform(0, 0.3))
            loss = 0.0 if whole else float(rng.choice([0.0, 0.07, 0.29]))
            contacts.append(Contact(start, t, names[a], names[b], rate, delay, loss))
            if two_way:
                contacts.append(Contact(start, t, names[b], names[a], rate, delay, loss))
        if two_way:
            break
    seen: dict[tuple[str, str], float] = {}
    kept = []
    for one in sorted(contacts):
        if one.start_s >= seen.get((one.source, one.target), 0.0):
            kept.append(one)
            seen[one.source, one.target] = one.end_s
    return build_plan(kept, "drawn", epoch_utc="2024-10-21T08:20:00Z" if epoch else "").plan


@pytest.fixture
def data() -> Path:
    return DATA
