"""Real processes, really killed: a generation goes on over what is left, with the same tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.survivors import Survivors

TOKENS = 24


@pytest.fixture(scope="module")
def survivors(reference_shards: Path) -> Iterator[Survivors]:
    made = Survivors(reference_shards, "int8")
    yield made
    made.close()


def test_hosts_and_gateways_die_and_come_back_and_every_token_is_the_same(survivors: Survivors) -> None:
    whole = survivors.generate(TOKENS)
    assert len(whole.tokens) == TOKENS and not whole.attempts
    for victim in ("h2", "h1", "g1"):
        hurt = survivors.generate(TOKENS, victim)
        assert hurt.tokens == whole.tokens, f"{victim} was killed"
        if victim.startswith("g"):
            assert hurt.attempts[0] == "gateway g1 is gone" and hurt.degraded == 1, "the re-prefilled token says so"
        else:
            assert not hurt.attempts and not hurt.degraded, "a replica served"
        survivors.revive(victim)
    assert survivors.generate(TOKENS).tokens == whole.tokens
