"""Dispatch under storms: a million shuffled, repeated and late replies, and a thousand kills of hosts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.serving.dispatch import MAX_CALLS, Call, LayerDispatch
from models.serving.layer_gate import Picks

REPLIES = 1_000_000
KILLS = 1_000
NODES, EXPERTS, WIDTH = 4, 16, 1
HEARTBEAT_S = 1.0


def holders(expert: int, copies: int) -> list[int]:
    return [(expert + c) % NODES for c in range(copies)]


def picks(rng: np.random.Generator, rows: int, copies: int) -> Picks:
    order = np.argsort(rng.random((rows, EXPERTS)), axis=1)
    experts = order[:, :2].astype(np.int16)
    hosts = ((experts + rng.integers(0, copies, experts.shape)) % NODES).astype(np.int16)
    return Picks(
        experts, hosts, np.ones((rows, 2), np.float32), order[:, 2:4].astype(np.int16), np.ones((rows, 2), np.float32),
        np.ones(rows, np.float32), np.zeros(rows, np.intp),
    )  # fmt: skip


def counted(call: Call) -> NDArray[np.float32]:
    """A host's reply in which every expert's sum is 1: the layer's sum counts how often each item was counted."""
    return np.asarray((call.experts >= 0).sum(axis=1, keepdims=True), np.float32)


def test_a_million_shuffled_repeated_and_late_replies_give_one_result_each() -> None:
    rng = np.random.default_rng(11)
    delivered = layers = 0
    while delivered < REPLIES:
        chosen = picks(rng, 4, 2)
        dispatch = LayerDispatch(
            chosen, WIDTH, [holders(e, 2) for e in range(EXPERTS)], lambda host: 1.0, 10.0, 0.0, 1 + layers * 4096
        )
        calls = [ask.call() for ask in dispatch.take_asks()]
        if layers % 3 == 0:
            dispatch.advance(1.5)  # all are late and hedged; both answers will come
            calls += [ask.call() for ask in dispatch.take_asks()]
        storm = [call for call in calls for _ in range(60)]
        accepted = 0
        for index in rng.permutation(len(storm)):
            call = storm[index]
            accepted += dispatch.reply(call.id, counted(call))
        delivered += len(storm)
        layers += 1
        outcome = dispatch.outcome()
        assert dispatch.finished and accepted <= len(calls)
        assert outcome.ignored == len(storm) - accepted
        assert outcome.total[:, 0].tolist() == [2.0] * 4, "an item was counted twice or not at all"
        assert not outcome.lost.any()


def test_a_thousand_kills_and_no_layer_hangs() -> None:
    """A silent host is decided on within its patience, a reported one at once; with two copies nothing is lost."""
    rng = np.random.default_rng(12)
    for kill in range(KILLS):
        chosen = picks(rng, 3, 2)
        victim = int(rng.integers(NODES))
        reported = bool(rng.integers(2))
        dispatch = LayerDispatch(
            chosen, WIDTH, [holders(e, 2) for e in range(EXPERTS)], lambda host: HEARTBEAT_S, 10.0, 0.0, 1 + kill * 4096
        )
        now_s, decided_s = 0.0, 0.0
        when = int(rng.integers(3))
        for turn in range(50):
            for call in [ask.call() for ask in dispatch.take_asks()]:
                if call.host != victim:
                    dispatch.reply(call.id, counted(call))
            if dispatch.finished:
                decided_s = now_s
                break
            if reported and turn >= when:
                dispatch.host_lost(victim, now_s)
            else:
                now_s = max(now_s + 0.01, dispatch.next_deadline_s())
                dispatch.advance(now_s)
        assert dispatch.finished, f"kill {kill} hangs"
        assert decided_s <= 2 * HEARTBEAT_S + 0.05
        outcome = dispatch.outcome()
        assert not outcome.lost.any() and outcome.total[:, 0].tolist() == [2.0] * 3


def test_without_replicas_a_thousand_kills_still_end_with_every_item_accounted_for() -> None:
    rng = np.random.default_rng(13)
    for kill in range(KILLS):
        chosen = picks(rng, 3, 1)
        victims = rng.permutation(NODES)[: rng.integers(1, NODES + 1)].tolist()
        dispatch = LayerDispatch(
            chosen, WIDTH, [holders(e, 1) for e in range(EXPERTS)], lambda host: HEARTBEAT_S, 10.0, 0.0, 1 + kill * 4096
        )
        now_s = 0.0
        for _ in range(50):
            for call in [ask.call() for ask in dispatch.take_asks()]:
                if call.host not in victims:
                    dispatch.reply(call.id, counted(call))
            if dispatch.finished:
                break
            now_s = max(now_s + 0.01, dispatch.next_deadline_s())
            dispatch.advance(now_s)
        assert dispatch.finished and now_s <= 10.0 + 0.05
        outcome = dispatch.outcome()
        assert (outcome.total[:, 0] + outcome.lost).tolist() == [2.0] * 3


def test_a_layer_that_nobody_answers_stays_within_its_numbers() -> None:
    """A long text on many boards in an outage: beyond 4,096 calls a layer's ids were the next one's too."""
    nodes, experts, rows = 64, 128, 4000
    rng = np.random.default_rng(0)
    where = [rng.choice(nodes, 2, replace=False).tolist() for _ in range(experts)]
    order = np.argsort(rng.random((rows, experts)), axis=1)[:, :10].astype(np.int16)
    chosen = Picks(
        order[:, :8], np.array([[where[e][0] for e in row] for row in order[:, :8]], np.int16),
        np.ones((rows, 8), np.float32), order[:, 8:], np.ones((rows, 2), np.float32), np.ones(rows, np.float32),
        np.zeros(rows, np.intp),
    )  # fmt: skip
    dispatch = LayerDispatch(chosen, WIDTH, where, lambda host: 1.0, 10.0, 0.0, 0)
    ids = [ask.id for ask in dispatch.take_asks()]
    for now_s in range(1, 11):
        dispatch.advance(float(now_s))
        ids += [ask.id for ask in dispatch.take_asks()]
    assert MAX_CALLS < max(ids) < 4096 and ids == list(range(len(ids)))
    assert dispatch.finished and dispatch.outcome().lost.tolist() == [8] * rows
