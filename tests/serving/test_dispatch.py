"""Dispatch joined to a world that loses, delays, repeats and reorders replies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.serving.dispatch import Call, LayerDispatch
from models.serving.layer_gate import Picks
from models.serving.pick_table import table_of

E, H, NODES = 6, 4, 3
RNG = np.random.default_rng(7)
EXPERTS = RNG.standard_normal((E, H, H)).astype(np.float32)


def make_picks(rows: int, seed: int) -> Picks:
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(E) for _ in range(rows)])
    experts = order[:, :2].astype(np.int16)
    weights = rng.random((rows, 2)).astype(np.float32) + 0.1
    hosts = np.array([[holders(e)[rng.integers(2)] for e in row] for row in experts], np.int16)
    reserves = order[:, 2:4].astype(np.int16)
    reserve_weights = rng.random((rows, 2)).astype(np.float32) * 0.1
    return Picks(experts, hosts, weights, reserves, reserve_weights, np.ones(rows, np.float32), np.zeros(rows, int))


def holders(expert: int) -> tuple[int, int]:
    return expert % NODES, (expert + 1) % NODES


def serve(call: Call, hidden: np.ndarray) -> np.ndarray:
    out = np.zeros((len(call.rows), H), np.float32)
    for i, row in enumerate(call.rows):
        for e, w in zip(call.experts[i], call.weights[i], strict=True):
            if e >= 0:
                out[i] += w * (EXPERTS[e] @ hidden[row])
    return out


def whole_sum(picks: Picks, hidden: np.ndarray) -> np.ndarray:
    out = np.zeros((len(hidden), H), np.float32)
    for r in range(len(hidden)):
        for e, w in zip(picks.experts[r], picks.weights[r], strict=True):
            if e >= 0:
                out[r] += w * (EXPERTS[e] @ hidden[r])
    return out


def start(picks: Picks, all_holders: list[tuple[int, ...]] | None = None) -> LayerDispatch:
    every = all_holders if all_holders is not None else [holders(e) for e in range(E)]
    return LayerDispatch(picks, H, every, lambda host: 1.0, 10.0, 0.0, 1)


def test_one_call_per_host_and_the_exact_sum() -> None:
    picks = make_picks(5, 0)
    hidden = RNG.standard_normal((5, H)).astype(np.float32)
    dispatch = start(picks)
    calls = [ask.call() for ask in dispatch.take_asks()]
    assert sorted(c.host for c in calls) == sorted(set(picks.hosts.ravel().tolist()))
    for call in reversed(calls):
        assert dispatch.reply(call.id, serve(call, hidden))
    outcome = dispatch.outcome()
    assert dispatch.finished and (outcome.lost.sum(), outcome.rerouted.sum()) == (0, 0)
    np.testing.assert_allclose(outcome.total, whole_sum(picks, hidden), atol=1e-5)


def test_without_sums_the_same_is_served_and_lost() -> None:
    """As simulation uses it: no arrays, replies without numbers."""
    straight = 0
    for seed in range(40):
        picks = make_picks(3, seed)
        outcomes = []
        for sums in (True, False):
            dispatch = start(picks if sums else table_of(picks), [holders(e)[: 1 + (seed + e) % 2] for e in range(E)])  # type: ignore[arg-type]
            if seed % 4:
                dispatch.host_lost(seed % NODES, 0.1)
            while calls := dispatch.take_asks():
                for call in calls:
                    hidden = np.zeros((len(call.rows), H), np.float32)
                    counted = dispatch.reply(call.id, hidden) if sums else dispatch.answered(call.id)
                    assert counted or call.host == seed % NODES  # its calls were over before they were sent
                    assert not dispatch.answered(call.id)
            found = dispatch.outcome()
            assert not (dispatch.as_picked and (found.lost.any() or found.rerouted.any()))
            outcomes.append((found.lost.tolist(), found.rerouted.tolist(), found.ignored, dispatch.as_picked))
        assert outcomes[0] == outcomes[1]
        straight += outcomes[0][3]
    assert 10 <= straight < 40


def test_sum_does_not_depend_on_the_order_of_replies() -> None:
    picks = make_picks(4, 3)
    hidden = RNG.standard_normal((4, H)).astype(np.float32)
    totals = []
    for flip in (False, True):
        dispatch = start(picks)
        calls = [ask.call() for ask in dispatch.take_asks()]
        for call in reversed(calls) if flip else calls:
            dispatch.reply(call.id, serve(call, hidden))
        totals.append(dispatch.outcome().total)
    assert totals[0].tobytes() == totals[1].tobytes()


def test_sum_does_not_depend_on_who_answers_for_a_host() -> None:
    """Three terms of which the order tells: 1e8 + 1 - 1e8 is 0 in float32, 1 - 1e8 + 1e8 is too, 1e8 - 1e8 + 1 is 1."""
    values = np.array([1e8, 1.0, -1e8], np.float32)
    picks = Picks(
        np.array([[0, 1, 2]], np.int16), np.array([[0, 1, 2]], np.int16), np.ones((1, 3), np.float32),
        np.array([[-1]], np.int16), np.zeros((1, 1), np.float32), np.ones(1, np.float32), np.zeros(1, int),
    )  # fmt: skip
    for slow in (None, 0, 1, 2):
        dispatch = start(picks, [(n, 3) for n in range(3)])
        calls = [ask.call() for ask in dispatch.take_asks()]
        for call in calls:
            if call.host != slow:
                dispatch.reply(call.id, np.full((1, H), values[call.host]))
        if slow is not None:
            assert dispatch.advance(1.0) == (slow,)
            (again,) = [ask.call() for ask in dispatch.take_asks()]
            assert again.host == 3 and dispatch.reply(again.id, np.full((1, H), values[slow]))
        assert dispatch.outcome().total.tolist() == [[float((values[0] + values[1]) + values[2])] * H]


def test_lost_host_is_replaced_by_the_replica_without_loss() -> None:
    picks = make_picks(3, 1)
    hidden = RNG.standard_normal((3, H)).astype(np.float32)
    dispatch = start(picks)
    calls = [ask.call() for ask in dispatch.take_asks()]
    victim = calls[0].host
    dispatch.host_lost(victim, 0.1)
    for call in [c for c in calls if c.host != victim] + [ask.call() for ask in dispatch.take_asks()]:
        assert call.host != victim
        dispatch.reply(call.id, serve(call, hidden))
    outcome = dispatch.outcome()
    assert dispatch.finished and not outcome.lost.any() and not outcome.rerouted.any()
    assert outcome.served == pytest.approx(1.0)
    np.testing.assert_allclose(outcome.total, whole_sum(picks, hidden), atol=1e-5)


def test_without_replica_the_next_live_expert_serves_with_its_own_weight() -> None:
    picks = Picks(
        np.array([[0, 1]], np.int16), np.array([[0, 1]], np.int16), np.array([[0.6, 0.4]], np.float32),
        np.array([[2, -1]], np.int16), np.array([[0.05, 0.0]], np.float32), np.ones(1, np.float32), np.zeros(1, int),
    )  # fmt: skip
    hidden = RNG.standard_normal((1, H)).astype(np.float32)
    dispatch = start(picks, [(0,), (1,), (2,), (0,), (0,), (0,)])
    first, second = [ask.call() for ask in dispatch.take_asks()]
    dispatch.host_lost(0, 0.1)
    (again,) = [ask.call() for ask in dispatch.take_asks()]
    assert (again.host, again.experts.tolist(), again.weights.tolist()) == (2, [[2]], [[np.float32(0.05)]])
    dispatch.reply(second.id, serve(second, hidden))
    dispatch.reply(again.id, serve(again, hidden))
    outcome = dispatch.outcome()
    assert (outcome.rerouted.tolist(), outcome.lost.tolist()) == ([1], [0])
    assert outcome.served.tolist() == [pytest.approx(0.45, rel=1e-6)], "of a mass of 1"
    wanted = 0.4 * EXPERTS[1] @ hidden[0] + 0.05 * EXPERTS[2] @ hidden[0]
    np.testing.assert_allclose(outcome.total[0], wanted, atol=1e-5)
    assert not dispatch.reply(first.id, serve(first, hidden)) and dispatch.outcome().ignored == 1


def test_slow_host_is_hedged_and_counted_once_whoever_answers_first() -> None:
    picks = make_picks(2, 5)
    hidden = RNG.standard_normal((2, H)).astype(np.float32)
    for slow_wins in (True, False):
        dispatch = start(picks)
        calls = [ask.call() for ask in dispatch.take_asks()]
        for call in calls[1:]:
            dispatch.reply(call.id, serve(call, hidden))
        assert dispatch.next_deadline_s() == 1.0
        dispatch.advance(1.0)
        hedges = [ask.call() for ask in dispatch.take_asks()]
        assert hedges and all(h.host != calls[0].host for h in hedges)
        if slow_wins:
            dispatch.reply(calls[0].id, serve(calls[0], hidden))
        for hedge in hedges:
            dispatch.reply(hedge.id, serve(hedge, hidden))
        if not slow_wins:
            assert dispatch.finished
            dispatch.reply(calls[0].id, serve(calls[0], hidden))
        outcome = dispatch.outcome()
        assert dispatch.finished and outcome.hedged == 1 and not outcome.lost.any()
        np.testing.assert_allclose(outcome.total, whole_sum(picks, hidden), atol=1e-5)


def test_wrong_shape_and_unknown_replies_are_ignored() -> None:
    dispatch = start(make_picks(2, 5))
    call = dispatch.take_asks()[0].call()
    assert not dispatch.reply(call.id, np.zeros((9, H), np.float32))
    assert not dispatch.reply(999, np.zeros((1, H), np.float32))
    assert dispatch.outcome().ignored == 2


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000), st.integers(0, 10_000))
def test_never_hangs_and_accounts_for_every_item(rows: int, seed: int, chaos: int) -> None:
    picks = make_picks(rows, seed)
    hidden = np.random.default_rng(seed).standard_normal((rows, H)).astype(np.float32)
    rng = np.random.default_rng(chaos)
    dispatch = start(picks)
    flying: list[Call] = []
    now = 0.0
    for _ in range(500):
        flying += [ask.call() for ask in dispatch.take_asks()]
        if dispatch.finished:
            break
        action = rng.integers(6)
        if flying and action <= 2:
            index = int(rng.integers(len(flying)))
            call = flying[index] if action == 2 else flying.pop(index)  # 2: will be answered twice
            dispatch.reply(call.id, serve(call, hidden))
        elif flying and action == 3:
            dispatch.refused(flying.pop(int(rng.integers(len(flying)))).id, now)
        elif action == 4 and rng.random() < 0.3:
            dispatch.host_lost(int(rng.integers(NODES)), now)
        else:
            now += float(rng.random())
            dispatch.advance(now)
    assert dispatch.finished, "a layer must end by its give-up time"
    outcome = dispatch.outcome()
    items = int((picks.experts >= 0).sum())
    assert 0 <= outcome.lost.sum() + outcome.rerouted.sum() <= items
    if not outcome.lost.any() and not outcome.rerouted.any():
        np.testing.assert_allclose(outcome.total, whole_sum(picks, hidden), atol=1e-4)


@pytest.mark.parametrize("rows", [1, 7])
def test_nobody_alive_loses_everything_but_ends(rows: int) -> None:
    dispatch = start(make_picks(rows, 2))
    for host in range(NODES):
        dispatch.host_lost(host, 0.0)
    outcome = dispatch.outcome()
    assert dispatch.finished and outcome.lost.tolist() == [2] * rows
    assert not outcome.total.any()
