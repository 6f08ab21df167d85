"""The gate kernel: exact top-k when unpriced, and its rules one by one."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_config.errors import RemoteProtocolError
from hil_config.wire.manifest import Routing
from hil_config.wire.plan import GatewaySlice, LayerPlan, SelectionPlan, Share
from models.oracle import route
from models.serving.gate import select
from models.serving.layer_gate import check_plan, compile_layer, row_fraction, unpriced

E = 8
NODES = ("a", "b", "c")


def plan(**changes: Any) -> SelectionPlan:
    hosts = tuple((Share(e % 3, 1.0), Share((e + 1) % 3, 1.0)) for e in range(E))
    layer = LayerPlan(
        changes.pop("price", (0.0,) * E), changes.pop("hosts", hosts), changes.pop("substitute", (-1,) * E)
    )
    fields: dict[str, Any] = {
        "version": 1, "epoch": 1, "issued_s": 0.0, "ttl_s": 5.0, "policy": "t", "reason": "r", "scale": 1.0,
        "coverage": 1.0, "k_min": 2, "k_max": 2, "threshold": -1e9, "nodes": NODES,
        "gateways": (GatewaySlice(0, 0, NODES),), "layers": (layer,),
    }  # fmt: skip
    return SelectionPlan(**{**fields, **changes})


def softmax(rows: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).standard_normal((rows, E)).astype(np.float32) * 2
    scores = np.exp(logits)
    return np.asarray(scores / scores.sum(axis=1, keepdims=True), np.float32)


def run(p: SelectionPlan, scores: np.ndarray, normalise: bool = True, alive: Any = (True, True, True)) -> Any:
    gate = compile_layer(p, 0, np.array(alive))
    return select(gate, scores, Routing(2, normalise), row_fraction(1, 0, len(scores), 0))


@given(st.integers(1, 70), st.integers(0, 10_000), st.booleans())
def test_unpriced_is_the_models_own_top_k(rows: int, seed: int, normalise: bool) -> None:
    scores = softmax(rows, seed)
    picks = run(plan(), scores, normalise)
    experts, weights = route(scores, Routing(2, normalise))
    assert np.array_equal(np.sort(picks.experts, axis=1), np.sort(experts, axis=1))
    for row in range(rows):
        mine = dict(zip(picks.experts[row].tolist(), picks.weights[row].tolist(), strict=True))
        for expert, weight in zip(experts[row].tolist(), weights[row].tolist(), strict=True):
            assert mine[expert] == pytest.approx(weight, rel=1e-6)
    np.testing.assert_allclose(picks.kept, 1.0, rtol=1e-5)
    assert not picks.rerouted.any()


def test_price_moves_a_row_to_another_expert_with_that_experts_own_weight() -> None:
    scores = np.array([[0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0]], np.float32)
    picks = run(plan(price=(0.35,) + (0.0,) * 7), scores)
    assert picks.experts.tolist() == [[1, 2]]
    np.testing.assert_allclose(picks.weights, [[0.3 / 0.7, 0.2 / 0.7]], rtol=1e-6)
    assert picks.kept[0] == pytest.approx(0.5 / 0.7, rel=1e-6)


def test_threshold_spares_k_min() -> None:
    scores = np.array([[0.6, 0.3, 0.1, 0, 0, 0, 0, 0]], np.float32)
    picks = run(plan(k_min=1, threshold=0.9), scores)
    assert picks.experts.tolist() == [[0, -1]]
    assert picks.weights[0, 1] == 0.0 and picks.hosts[0, 1] == -1
    assert picks.kept[0] == pytest.approx(0.6 / 0.9)


def test_coverage_stops_when_enough_mass_is_served() -> None:
    scores = np.array([[0.9, 0.05, 0.05, 0, 0, 0, 0, 0], [0.4, 0.35, 0.25, 0, 0, 0, 0, 0]], np.float32)
    picks = run(plan(k_min=1, coverage=0.8), scores)
    assert picks.experts.tolist() == [[0, -1], [0, 1]]


def test_an_expert_without_live_host_is_replaced_by_the_next_best() -> None:
    scores = np.array([[0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0]], np.float32)
    hosts = ((),) + ((Share(1, 1.0),),) * 7
    picks = run(plan(hosts=hosts), scores)
    assert picks.experts.tolist() == [[1, 2]] and picks.rerouted.tolist() == [1]
    gone = run(plan(hosts=hosts), scores, alive=(True, False, True))
    assert gone.experts.tolist() == [[-1, -1]] and gone.kept[0] == 0.0


def test_substitute_serves_in_place_and_takes_the_weight() -> None:
    scores = np.array([[0.5, 0.3, 0.2, 0, 0, 0, 0, 0]], np.float32)
    substitute = (7,) + (-1,) * 7
    picks = run(plan(substitute=substitute), scores)
    assert picks.experts.tolist() == [[7, 1]]
    np.testing.assert_allclose(picks.weights, [[0.625, 0.375]], rtol=1e-6)


def test_reserves_are_the_next_live_experts() -> None:
    scores = np.array([[0.3, 0.25, 0.2, 0.15, 0.1, 0, 0, 0]], np.float32)
    picks = run(plan(), scores)
    assert picks.reserves.tolist() == [[2, 3]]
    np.testing.assert_allclose(picks.reserve_weights, [[0.2 / 0.55, 0.15 / 0.55]], rtol=1e-6)


def test_replicas_share_rows_by_weight_and_do_not_depend_on_batch_mates() -> None:
    hosts = ((Share(0, 3.0), Share(1, 1.0)),) * E
    scores = np.tile(softmax(1, 3), (4000, 1))
    gate = compile_layer(plan(hosts=hosts), 0, np.array([True, True, True]))
    fraction = row_fraction(5, 0, 4000, 0)
    picks = select(gate, scores, Routing(2, True), fraction)
    assert np.mean(picks.hosts[:, 0] == 0) == pytest.approx(0.75, abs=0.03)
    alone = select(gate, scores[:1], Routing(2, True), fraction[1234:1235])
    assert alone.hosts[0].tolist() == picks.hosts[1234].tolist()


@given(st.floats(0.0, 1.0, exclude_max=True), st.integers(1, 8), st.booleans())
def test_the_experts_of_a_row_are_shared_out_over_their_hosts(fraction: float, kept: int, swapped: bool) -> None:
    pair = (Share(0, 1.0), Share(1, 1.0))
    hosts = (*(pair,) * (E - 1), pair[::-1] if swapped else pair)
    whole = plan(hosts=hosts, k_min=kept, k_max=kept)
    picks = select(compile_layer(whole, 0, np.ones(3, bool)), softmax(1, 3), Routing(2, True), np.array([fraction]))
    on_each = [int((picks.hosts[0] == node).sum()) for node in (0, 1)]
    assert sum(on_each) == kept
    assert abs(on_each[0] - on_each[1]) <= 1


@given(st.integers(0, 2**31), st.integers(0, 100), st.integers(0, 40))
def test_row_fraction_depends_on_request_position_and_layer_only(request: int, start: int, layer: int) -> None:
    whole = row_fraction(request, 0, start + 5, layer)
    assert np.array_equal(whole[start:], row_fraction(request, start, 5, layer))
    assert ((whole >= 0) & (whole < 1)).all()


def test_an_expired_plan_becomes_plain_top_k_on_the_same_hosts() -> None:
    priced = plan(price=(0.9,) * E, k_min=0, threshold=0.5)
    scores = softmax(3, 1)
    picks = run(unpriced(priced, 2), scores)
    assert np.array_equal(picks.experts, run(plan(), scores).experts)


@pytest.mark.parametrize(
    "broken",
    [
        plan(k_min=3, k_max=2), plan(k_max=0, k_min=0), plan(k_max=99), plan(price=(0.0,)),
        plan(hosts=((Share(9, 1.0),),) * E), plan(hosts=((Share(0, 0.0),),) * E), plan(substitute=(99,) * E),
        plan(layers=()), plan(gateways=()), plan(gateways=(GatewaySlice(1, 0, ("a",)),)),
        plan(gateways=(GatewaySlice(0, 1, ("a",)),)), plan(gateways=(GatewaySlice(0, 0, ()),)),
        plan(gateways=(GatewaySlice(0, 0, ("stranger",)),)), plan(gateways=(GatewaySlice(-1, 0, ("a",)),)),
        plan(gateways=(GatewaySlice(0, 0, ("a",)), GatewaySlice(0, 0, ("a",)))),
    ],
)  # fmt: skip
def test_a_plan_that_does_not_fit_is_refused(broken: SelectionPlan) -> None:
    check_plan(plan(), 1, E)
    with pytest.raises(RemoteProtocolError, match="does not fit"):
        check_plan(broken, 1, E)


def test_a_factor_changes_the_order_and_a_layer_may_ask_for_less_coverage() -> None:
    scores = np.array([[0.5, 0.3, 0.1, 0.05, 0.02, 0.01, 0.01, 0.01]], np.float32)
    usual = plan(k_min=1)
    layer = msgspec.structs.replace(usual.layers[0], factor=(0.5, *(1.0,) * (E - 1)), coverage=0.35)
    picks = run(msgspec.structs.replace(usual, layers=(layer,)), scores)
    assert picks.experts[0].tolist() == [1, -1]
    assert picks.weights[0, 0] == pytest.approx(0.375)  # mixing weights know nothing of the factor


def test_a_factor_of_the_wrong_length_does_not_fit() -> None:
    usual = plan()
    layer = msgspec.structs.replace(usual.layers[0], factor=(1.0,))
    with pytest.raises(RemoteProtocolError, match="does not fit"):
        check_plan(msgspec.structs.replace(usual, layers=(layer,)), 1, len(usual.layers[0].price))


def run_separate(p: SelectionPlan, scores: np.ndarray, mixing: np.ndarray, always_on: int = 1, k: int = 3) -> Any:
    gate = compile_layer(p, 0, np.array((True, True, True)))
    rule = Routing(k, False, separate_weights=True, always_on=always_on)
    return select(gate, scores, rule, row_fraction(1, 0, len(scores), 0), mixing)


@given(st.integers(1, 30), st.integers(0, 10_000))
def test_mixing_weights_of_their_own_are_taken_at_the_picks_of_the_scores(rows: int, seed: int) -> None:
    scores, mixing = softmax(rows, seed), softmax(rows, seed + 1)
    picks = run_separate(plan(k_min=3, k_max=3), scores, mixing, always_on=0)
    wanted, weights = route(scores, Routing(3, False, separate_weights=True), mixing)
    assert np.array_equal(picks.experts, wanted)
    np.testing.assert_array_equal(picks.weights, weights)
    np.testing.assert_allclose(picks.kept, 1.0, rtol=1e-6)


def test_an_always_on_expert_comes_first_at_any_price_and_its_weight_covers_nothing() -> None:
    scores = np.array([[0.4, 0.3, 0.2, 0.1, 0, 0, 0, 1e4]], np.float32)
    mixing = np.array([[0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0.9]], np.float32)
    dear = plan(k_min=1, k_max=4, coverage=0.5, threshold=0.0, price=(0.0,) * 7 + (1e9,), scale=0.0)
    assert run_separate(dear, scores, mixing).experts[0, 0] == 7
    cheap = run_separate(plan(k_min=1, k_max=4, coverage=0.5, threshold=0.0), scores, mixing)
    assert cheap.experts[0].tolist() == [7, 0, 1, -1], "0.4 and 0.3 cover a half; 0.9 would have covered it alone"
    np.testing.assert_allclose(cheap.kept, 1.6 / 1.6)


def test_an_always_on_expert_that_nobody_serves_is_replaced_and_counted() -> None:
    scores = np.array([[0.4, 0.3, 0.2, 0.1, 0, 0, 0, 1e4]], np.float32)
    hosts = tuple((Share(0, 1.0),) for _ in range(7)) + ((),)
    picks = run_separate(plan(k_min=3, k_max=3, hosts=hosts), scores, scores / 2)
    assert picks.experts[0].tolist() == [0, 1, 2] and int(np.sum(picks.rerouted)) == 1
