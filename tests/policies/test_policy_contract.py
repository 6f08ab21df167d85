"""What every policy owes, over every policy in the tables."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import msgspec
import numpy as np
import pytest

from ground_controller.policies.eligibility import layer_gateways, usable
from ground_controller.policies.registry import PLACEMENT, SELECTION, placement_policy, selection_policy
from ground_controller.policies.view import Placement, PlacementProblem, Selection, View

SEEDS = range(40)
selections = pytest.mark.parametrize("name", sorted(SELECTION))
placements = pytest.mark.parametrize("name", sorted(PLACEMENT))
DrawView = Callable[[int], View]
DrawProblem = Callable[[int], PlacementProblem]


def warmed(name: str, view: View) -> tuple[Any, Any]:
    """The policy and its state after a few ticks of this view."""
    policy = selection_policy(name)
    state = policy.start(len(view.nodes))
    for _ in range(5):
        state, _ = policy.select(state, view)
    return policy, state


def same_view(a: View, b: View) -> bool:
    return replace(a, delay_s=b.delay_s) == b and np.array_equal(a.delay_s, b.delay_s)


@selections
@pytest.mark.parametrize("seed", SEEDS)
def test_same_question_same_answer_and_nothing_touched(name: str, seed: int, drawn_view: DrawView) -> None:
    view = drawn_view(seed)
    policy, state = warmed(name, view)
    before = copy.deepcopy((view, state))
    assert policy.select(state, view) == policy.select(state, view)
    assert same_view(before[0], view)
    assert before[1] == state


@selections
@pytest.mark.parametrize("seed", SEEDS)
def test_shares_are_positive_complete_and_only_on_eligible_hosts(name: str, seed: int, drawn_view: DrawView) -> None:
    view = drawn_view(seed)
    policy, state = warmed(name, view)
    _, selection = policy.select(state, view)
    for layer, (plan, gateway) in enumerate(zip(selection.layers, layer_gateways(view), strict=True)):
        for expert, hosts in enumerate(plan.hosts):
            if hosts:
                assert math.fsum(share.weight for share in hosts) == pytest.approx(1.0)
                assert len({share.node for share in hosts}) == len(hosts)
            for share in hosts:
                assert share.weight > 0.0
                assert share.node in view.holders[layer][expert]
                assert usable(view.nodes[share.node])
                assert gateway is not None
                assert math.isfinite(view.delay_s[gateway, share.node] + view.delay_s[share.node, gateway])


@selections
@pytest.mark.parametrize("seed", SEEDS)
def test_an_expert_with_an_eligible_holder_keeps_a_host(name: str, seed: int, drawn_view: DrawView) -> None:
    view = drawn_view(seed)
    policy, state = warmed(name, view)
    _, selection = policy.select(state, view)
    for layer, gateway in enumerate(layer_gateways(view)):
        for expert, held in enumerate(view.holders[layer]):
            open_to = gateway is not None and any(
                usable(view.nodes[n]) and math.isfinite(view.delay_s[gateway, n] + view.delay_s[n, gateway])
                for n in held
            )
            assert bool(selection.layers[layer].hosts[expert]) == open_to


@selections
@pytest.mark.parametrize("seed", SEEDS)
def test_the_answer_has_the_shape_of_a_plan(name: str, seed: int, drawn_view: DrawView) -> None:
    view = drawn_view(seed)
    policy, state = warmed(name, view)
    _, selection = policy.select(state, view)
    assert isinstance(selection, Selection)
    assert selection.reason.strip()
    assert 0 < selection.k_min <= selection.k_max <= view.model.experts
    assert 0.0 < selection.coverage <= 1.0
    assert all(map(math.isfinite, (selection.scale, selection.threshold)))
    assert len(selection.layers) == view.model.layers
    for plan in selection.layers:
        assert len(plan.price) == len(plan.hosts) == len(plan.substitute) == view.model.experts
        assert all(math.isfinite(price) and price >= 0.0 for price in plan.price)
        assert all(-1 <= other < view.model.experts for other in plan.substitute)


@selections
@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_nodes_does_not_matter(name: str, seed: int, drawn_view: DrawView) -> None:
    view = drawn_view(seed)
    policy, state = warmed(name, view)
    order = [int(n) for n in np.random.default_rng(seed + 1).permutation(len(view.nodes))]
    to = {old: new for new, old in enumerate(order)}
    turned = replace(
        view,
        nodes=tuple(view.nodes[old] for old in order),
        delay_s=view.delay_s[np.ix_(order, order)],
        holders=tuple(tuple(tuple(to[n] for n in held) for held in layer) for layer in view.holders),
    )
    if view.outlook is not None:
        ahead = view.outlook
        turned = replace(
            turned,
            outlook=replace(
                ahead,
                power_w=ahead.power_w[order],
                harvest_w=ahead.harvest_w[:, order],
                base_c=ahead.base_c[:, order],
            ),
        )
    _, turned_state = warmed(name, turned)
    _, wanted = policy.select(state, view)
    _, found = policy.select(turned_state, turned)
    assert found.reason == wanted.reason
    for a, b in zip(found.layers, wanted.layers, strict=True):
        assert a.price == b.price
        moved = tuple(tuple((to[share.node], share.weight) for share in held) for held in b.hosts)
        assert tuple(tuple((share.node, share.weight) for share in held) for held in a.hosts) == moved


@selections
def test_state_survives_json(name: str, calm: View) -> None:
    _, state = warmed(name, replace(calm, nodes=(replace(calm.nodes[0], temperature_c=68.0), *calm.nodes[1:])))
    assert msgspec.json.decode(msgspec.json.encode(state), type=type(state)) == state


@selections
def test_trouble_is_said(name: str, calm: View) -> None:
    policy, state = warmed(name, calm)
    view = replace(calm, nodes=(*calm.nodes[:3], replace(calm.nodes[3], in_service=False)))
    assert "d takes no work" in policy.select(state, view)[1].reason
    dead = replace(calm, nodes=tuple(replace(each, alive=False) for each in calm.nodes))
    assert "8 of 8 experts have no host" in policy.select(state, dead)[1].reason


@selections
def test_the_standby_takes_over(name: str, calm: View) -> None:
    """Gateway a dies; from its standby b the link to d is down: d serves no more."""
    delay = calm.delay_s.copy()
    delay[1, 3] = np.inf
    policy, state = warmed(name, calm)
    usual = policy.select(state, replace(calm, delay_s=delay))[1]
    assert {share.node for held in usual.layers[0].hosts for share in held} == {0, 1, 2, 3}
    view = replace(calm, nodes=(replace(calm.nodes[0], alive=False), *calm.nodes[1:]), delay_s=delay)
    after = policy.select(state, view)[1]
    assert {share.node for held in after.layers[0].hosts for share in held} == {1, 2}
    assert "d out of reach of b" in after.reason


def copies_of(placement: Placement) -> Counter[int]:
    return Counter(n for layer in placement.holders for held in layer for n in held)


@placements
@pytest.mark.parametrize("seed", SEEDS)
def test_a_placement_is_whole_and_fits(name: str, seed: int, drawn_problem: DrawProblem) -> None:
    problem = drawn_problem(seed)
    before = copy.deepcopy(problem)
    policy = placement_policy(name)
    placement = policy.place(problem)
    assert policy.place(problem) == placement
    assert np.array_equal(before.expected_delay_s, problem.expected_delay_s)
    assert placement.reason.strip()
    assert len(placement.holders) == problem.model.layers
    for layer in placement.holders:
        assert len(layer) == problem.model.experts
        for held in layer:
            assert 1 <= len(held) == len(set(held)) <= 1 + problem.replicas
    used = copies_of(placement)
    assert all(used[n] <= slots for n, slots in enumerate(problem.slots))
    ends = [(piece.first, piece.last) for piece in placement.gateways]
    layers = [layer for first, last in ends for layer in range(first, last + 1)]
    assert layers == list(range(problem.model.layers))
    assert len(ends) == problem.trunk_slices
    for piece in placement.gateways:
        assert len(set(piece.nodes)) == len(piece.nodes) == min(2, len(problem.nodes))
        assert set(piece.nodes) <= set(problem.nodes)


@placements
@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_nodes_does_not_matter_to_a_placement(name: str, seed: int, drawn_problem: DrawProblem) -> None:
    problem = drawn_problem(seed)
    order = [int(n) for n in np.random.default_rng(seed + 1).permutation(len(problem.nodes))]
    to = dict(zip(order, count(), strict=False))
    turned = replace(
        problem,
        nodes=tuple(problem.nodes[old] for old in order),
        expected_delay_s=problem.expected_delay_s[np.ix_(order, order)],
        slots=tuple(problem.slots[old] for old in order),
    )
    wanted, found = placement_policy(name).place(problem), placement_policy(name).place(turned)
    assert found.gateways == wanted.gateways
    assert found.reason == wanted.reason
    assert found.holders == tuple(tuple(tuple(to[n] for n in held) for held in layer) for layer in wanted.holders)
