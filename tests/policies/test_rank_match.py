from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count, permutations

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from ground_controller.policies.rank_match import RankMatch
from ground_controller.policies.view import Placement, PlacementProblem
from hil_config.errors import ConfigError
from hil_config.wire.manifest import ModelCard, Routing

DrawProblem = Callable[[int], PlacementProblem]


def paths(problem: PlacementProblem, placement: Placement, layer: int) -> NDArray[np.float64]:
    """Expected path of each node for a layer, from the formula of the paper."""
    at = [problem.nodes.index(p.nodes[0]) for p in placement.gateways for _ in range(p.first, p.last + 1)]
    after = at[min(layer + 1, len(at) - 1)]
    return np.asarray(problem.expected_delay_s[at[layer], :] + problem.expected_delay_s[:, after])


@pytest.mark.parametrize("seed", range(30))
def test_no_other_assignment_of_the_same_slots_is_faster(seed: int, drawn_problem: DrawProblem) -> None:
    drawn = (drawn_problem(number) for number in count(100 * seed))
    problem = next(each for each in drawn if each.model.experts <= 6)  # few enough orders to try all
    placement = RankMatch().place(problem)
    for layer, held in enumerate(placement.holders):
        cost = paths(problem, placement, layer)
        use = np.array(problem.model.activation[layer])
        slots = [copies[0] for copies in held]
        best = min(float(use @ cost[list(order)]) for order in permutations(slots))
        assert float(use @ cost[slots]) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_one_expert_a_node_is_the_papers_optimum(seed: int) -> None:
    """As many nodes as experts, one slot each: best over every assignment there is."""
    rng = np.random.default_rng(seed)
    delay = rng.uniform(0.001, 0.02, (5, 5))
    np.fill_diagonal(delay, 0.0)
    problem = one_layer(delay, rng.dirichlet(np.ones(5)) * 2.0, slots=(1,) * 5)
    placement = RankMatch().place(problem)
    cost, use = paths(problem, placement, 0), np.array(problem.model.activation[0])
    found = [copies[0] for copies in placement.holders[0]]
    assert sorted(found) == [0, 1, 2, 3, 4]
    best = min(float(use @ cost[list(order)]) for order in permutations(range(5)))
    assert float(use @ cost[found]) == pytest.approx(best, rel=1e-12)


def one_layer(delay: NDArray[np.float64], activation: NDArray[np.float64], slots: tuple[int, ...]) -> PlacementProblem:
    rows = (tuple(map(float, activation)),)
    model = ModelCard("tiny", 1, len(activation), 8, 8, 8, 1, 8, 8, 0, Routing(2, True), rows, rows)
    return PlacementProblem(tuple("abcdefgh"[: len(slots)]), delay, slots, 0, 1, model, 0)


LINE = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0))) * 1e-3
"""Four nodes on a line, a millisecond apart: b and c are central."""


def test_the_centre_is_the_gateway_and_the_next_its_standby() -> None:
    placement = RankMatch().place(one_layer(LINE, np.full(4, 0.5), (4,) * 4))
    assert placement.gateways[0].nodes == ("b", "c")


def test_busy_experts_are_near_and_every_node_serves() -> None:
    problem = one_layer(LINE, np.array([0.1, 0.2, 0.3, 0.4, 0.15, 0.25, 0.35, 0.25]), (8,) * 4)
    holders = RankMatch().place(problem).holders[0]
    assert Counter(copies[0] for copies in holders) == {0: 2, 1: 2, 2: 2, 3: 2}
    assert holders[3][0] == holders[6][0] == 1
    assert holders[0][0] == holders[4][0] == 3


def test_slots_bound_what_a_node_holds() -> None:
    holders = RankMatch().place(one_layer(LINE, np.linspace(0.1, 0.4, 8), (1, 5, 1, 1))).holders[0]
    assert Counter(copies[0] for copies in holders) == {0: 1, 1: 5, 2: 1, 3: 1}


def deep(problem: PlacementProblem, layers: int) -> PlacementProblem:
    rows = problem.model.activation * layers
    return replace(problem, model=structs.replace(problem.model, layers=layers, activation=rows, importance=rows))


def test_small_nodes_serve_every_layer() -> None:
    problem = deep(one_layer(LINE, np.full(8, 0.25), (4, 40, 4, 4)), 4)
    for layer in RankMatch().place(problem).holders:
        assert Counter(copies[0] for copies in layer) == {0: 1, 1: 5, 2: 1, 3: 1}


def test_slices_have_distinct_gateways_and_fresh_standbys() -> None:
    problem = replace(deep(one_layer(LINE, np.full(8, 0.25), (16,) * 4), 4), trunk_slices=2)
    gateways = RankMatch().place(problem).gateways
    assert [(piece.first, piece.last, piece.nodes) for piece in gateways] == [
        (0, 1, ("b", "a")),
        (2, 3, ("c", "d")),
    ]
    many = replace(problem, trunk_slices=4)
    assert [piece.nodes for piece in RankMatch().place(many).gateways] == [
        ("b", "c"), ("c", "a"), ("a", "d"), ("d", "b")
    ]  # fmt: skip


def test_copies_spread_over_other_nodes() -> None:
    problem = replace(one_layer(LINE, np.full(8, 0.25), (4,) * 4), replicas=1)
    placement = RankMatch().place(problem)
    second = Counter(copies[1] for copies in placement.holders[0])
    assert all(len(set(copies)) == 2 for copies in placement.holders[0])
    assert second == {0: 2, 1: 2, 2: 2, 3: 2}
    assert "no room" not in placement.reason


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_memory_that_just_suffices_is_filled(layers: int, replicas: int) -> None:
    exact = (2 * layers * (1 + replicas),) * 4
    problem = replace(deep(one_layer(LINE, np.linspace(0.1, 0.4, 8), exact), layers), replicas=replicas)
    placement = RankMatch().place(problem)
    assert all(len(set(held)) == 1 + replicas for layer in placement.holders for held in layer)


def test_copies_go_to_the_busiest_first_when_memory_is_short() -> None:
    problem = replace(one_layer(LINE, np.linspace(0.1, 0.4, 8), (2, 2, 3, 3)), replicas=1)
    placement = RankMatch().place(problem)
    assert [len(copies) for copies in placement.holders[0]] == [1, 1, 1, 1, 1, 1, 2, 2]
    assert "6 of the wanted copies found no room" in placement.reason


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"slots": (1, 1, 1, 0)}, "do not fit the 3 slots"),
        ({"slots": (9, -1, 1, 1)}, "below 0"),
        ({"trunk_slices": 2}, "trunk_slices is 2, wanted 1 to 1"),
        ({"replicas": -1}, "below 0"),
        ({"nodes": ("a", "a", "b", "c")}, "names all different"),
    ],
)
def test_problems_without_an_answer(change: dict[str, object], part: str) -> None:
    problem = one_layer(LINE, np.full(4, 0.5), (1,) * 4)
    with pytest.raises(ConfigError, match=part):
        RankMatch().place(replace(problem, **change))  # type: ignore[arg-type]


def rings(problem: PlacementProblem) -> PlacementProblem:
    """Four layers in two slices over two planes of three satellites; ring: the place in the plane."""
    names = tuple(f"p{plane}s{slot}" for plane in range(3) for slot in range(2))
    plane, slot = np.divmod(np.arange(6), 2)
    delay = 2e-3 * np.abs(np.subtract.outer(plane, plane)) + 5e-3 * np.abs(np.subtract.outer(slot, slot))
    return replace(
        deep(problem, 2), nodes=names, expected_delay_s=delay.astype(np.float64), slots=(1,) * 6, trunk_slices=2,
        ring=tuple(float(s) for s in slot), dedicated_gateways=True,
    )  # fmt: skip


def test_ring_subnets_with_one_role_each_are_the_papers() -> None:
    problem = rings(one_layer(LINE, np.array([0.3, 0.7]), (4,) * 4))
    placement = RankMatch(in_ring=True).place(problem)
    assert [piece.nodes[0] for piece in placement.gateways] == ["p1s0", "p1s1"]  # the middle plane of each
    for layer, held in enumerate(placement.holders):
        assert {problem.nodes[copies[0]][-2:] for copies in held} == {f"s{layer}"}
    used = [copies[0] for layer in placement.holders for copies in layer]
    assert sorted(used) == [0, 1, 4, 5]  # nobody twice, no gateway


def test_dedicated_gateways_need_room_beside_them() -> None:
    problem = rings(one_layer(LINE, np.array([0.2, 0.3, 0.5]), (4,) * 4))
    with pytest.raises(ConfigError, match="6 experts do not fit the 4 slots that dedicated gateways leave"):
        RankMatch(in_ring=True).place(problem)


def test_a_full_subnet_asks_its_neighbours_only_for_what_it_lacks() -> None:
    problem = replace(rings(one_layer(LINE, np.array([0.2, 0.3, 0.5]), (4,) * 4)), slots=(1, 9, 1, 9, 1, 9),
                      dedicated_gateways=False)  # fmt: skip
    placement = RankMatch(in_ring=True).place(problem)
    assert {problem.nodes[copies[0]][-2:] for copies in placement.holders[0]} == {"s0"}
    tight = replace(problem, slots=(1, 9, 1, 9, 0, 9))
    outside = [copies[0] for copies in RankMatch(in_ring=True).place(tight).holders[0] if copies[0] % 2]
    assert len(outside) == 1
