"""Pasts of requests that step together: always each request's own rows, wherever they lie, and no copy once they do."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from node_agent.engine.kv_cache import FIRST_ROWS, STRIDE, RequestCache, pasts
from node_agent.engine.trunk import Rows, open_trunk
from node_agent.shards.store import ShardStore

LAYERS = 2


def shape(layer: int) -> tuple[int, int, int]:
    return 2, 3 + layer, 4


class Written:
    """A request's cache, and the rows that were put into it."""

    def __init__(self, number: int) -> None:
        self.cache = RequestCache(shape)
        self.rng = np.random.default_rng(number)
        self.rows: list[list[tuple[NDArray[np.float32], NDArray[np.float32]]]] = [[] for _ in range(LAYERS)]

    def step(self, count: int) -> None:
        for layer in range(LAYERS):
            heads, key, value = shape(layer)
            new = tuple(self.rng.standard_normal((count, heads, size)).astype(np.float32) for size in (key, value))
            self.cache.write(layer, *new)
            self.rows[layer] += zip(*new, strict=True)
        self.cache.advance(count)

    def restart(self) -> None:
        self.cache.restart(self.cache.attempt + 1)
        self.rows = [[] for _ in range(LAYERS)]


def check(layer: int, group: list[Written]) -> None:
    found = pasts(layer, [one.cache for one in group])
    longest = max(1, *(one.cache.length for one in group))
    longest += -longest % STRIDE
    for part, side in zip(found, (0, 1), strict=True):
        assert part.shape == (longest, len(group), shape(layer)[0], shape(layer)[1 + side]) and part.flags.c_contiguous
        assert np.isfinite(part).all(), "what lies beyond a past is multiplied by nothing, and must be finite"
        for at, one in enumerate(group):
            assert len(one.rows[layer]) == one.cache.length
            for position, row in enumerate(one.rows[layer]):
                assert np.array_equal(part[position, at], row[side])


def test_any_requests_may_step_together_in_any_order() -> None:
    rng = random.Random(7)
    everybody = [Written(n) for n in range(7)]
    for turn in range(300):
        group = rng.sample(everybody, rng.randint(1, len(everybody)))
        check(turn % LAYERS, group)
        for one in group:
            one.step(rng.choice((1, 1, 1, 5, 64)) if one.cache.length < 400 else 0)
        if turn % 20 == 19:
            rng.choice(group).restart()
    assert max(one.cache.length for one in everybody) > 4 * FIRST_ROWS, "they grew while they lay side by side"


def test_those_that_stay_together_are_read_where_they_lie() -> None:
    group = [Written(n) for n in range(3)]
    for one in group:
        one.step(10)
    first = pasts(0, [one.cache for one in group])
    group[1].step(1)
    again = pasts(0, [one.cache for one in group])
    for before, now in zip(first, again, strict=True):
        assert before.base is now.base and len(now) == STRIDE
    alone = pasts(0, [group[1].cache])
    assert alone[0].base is not first[0].base and alone[0].shape[1] == 1
    check(0, [group[0], group[2]])


def test_nothing_of_an_old_attempt_is_read_beside_a_longer_past() -> None:
    short, long = Written(0), Written(1)
    short.step(20)
    long.step(30)
    check(0, [short, long])
    pasts(0, [short.cache, long.cache])[0][10, 0] = np.nan  # memory that flips a bit
    short.restart()
    check(0, [short, long])
    short.step(1)
    check(0, [short, long])


def test_a_request_knows_which_layers_it_has_a_past_of() -> None:
    one = RequestCache(shape)
    assert one.covers(0, 5)
    pasts(0, [one])
    one.write(1, np.ones((1, 2, 4), np.float32), np.ones((1, 2, 4), np.float32))
    one.advance(1)
    assert one.covers(0, 1) and not one.covers(0, 2)


def test_short_pasts_do_not_take_the_memory_of_a_long_one_beside_them(reference_shards: Path) -> None:
    """With one of 4,096 positions of OLMoE among sixteen they took 17 GB instead of 1.3."""
    store, rng = ShardStore(reference_shards), np.random.default_rng(1)
    trunk, card = open_trunk(store, (0,)), store.manifest.model
    caches = [RequestCache(card.cache_shape) for _ in range(16)]
    for cache, length in zip(caches, (200, *range(5, 20)), strict=True):
        trunk.step(0, [Rows(trunk.embed(rng.integers(1, card.vocabulary, length, np.int32)), 0, cache)]).keep()
        cache.advance(length)
    alone = sum(FIRST_ROWS * -(-cache.length // FIRST_ROWS) for cache in caches)
    step = [Rows(trunk.embed(rng.integers(1, card.vocabulary, 1, np.int32)), cache.length, cache) for cache in caches]
    wanted = [trunk.step(0, [part]).residual for part in step]
    found = trunk.step(0, step).residual
    assert np.allclose(found, np.concatenate(wanted), atol=1e-4 * np.abs(found).max())
    slabs = {id(slab): slab.keys.shape for slab, _ in (cache._places[0] for cache in caches)}
    assert sum(rows * columns for rows, columns, *_ in slabs.values()) < 2 * alone
