"""50 expert hosts and 50 gateways killed outright in the middle of a generation: how many hang, how long they pause."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.survivors import GATEWAYS, HOSTS, Survivors
from models.build import build_shards
from models.locate import reference_checkpoint

KILLS, TOKENS = 50, 32


def _round(survivors: Survivors, victims: tuple[str, ...], wanted: list[int], rng: np.random.Generator) -> str:
    hangs, other, waits = 0, 0, []
    for kill in range(KILLS):
        victim = victims[kill % len(victims)]
        try:
            found = survivors.generate(TOKENS, victim, int(rng.integers(1, TOKENS - 4)))
        except TimeoutError:
            hangs += 1
            continue
        finally:
            survivors.revive(victim)
        other += found.tokens != wanted
        waits.append(found.longest_ms)
    return (
        f"{KILLS} kills of {', '.join(victims)}: {hangs} hangs, {other} generations with another token, "
        f"longest wait median {np.median(waits):.0f} ms, worst {max(waits):.0f} ms"
    )


def run() -> None:
    """About seven minutes on two cores: each victim starts again and proves its shards before the next kill."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        build_shards(reference_checkpoint(), Path(name) / "shards", ("int8",))
        survivors = Survivors(Path(name) / "shards", "int8")
        try:
            wanted = survivors.generate(TOKENS).tokens
            print(_round(survivors, HOSTS, wanted, rng), flush=True)
            print(_round(survivors, GATEWAYS[:1], wanted, rng), flush=True)
        finally:
            survivors.close()
