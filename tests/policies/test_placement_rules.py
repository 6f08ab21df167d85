"""What each placement policy is for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from ground_controller.policies.registry import placement_policy
from ground_controller.policies.view import Placement, PlacementProblem
from hil_config.errors import ConfigError
from hil_config.wire.manifest import ModelCard

DrawProblem = Callable[[int], PlacementProblem]


def path_cost(problem: PlacementProblem, placement: Placement) -> float:
    """Expected path of an activation through the primaries."""
    index = {name: n for n, name in enumerate(problem.nodes)}
    at = [index[piece.nodes[0]] for piece in placement.gateways for _ in range(piece.first, piece.last + 1)]
    after = [*at[1:], at[-1]]
    return math.fsum(
        problem.model.activation[layer][e] * (problem.expected_delay_s[at[layer], held[0]])
        + problem.model.activation[layer][e] * problem.expected_delay_s[held[0], after[layer]]
        for layer, row in enumerate(placement.holders)
        for e, held in enumerate(row)
    )


@pytest.mark.parametrize("seed", range(12))
def test_no_heuristic_has_a_shorter_path_than_the_exact_one(seed: int, drawn_problem: DrawProblem) -> None:
    problem = replace(drawn_problem(seed), replicas=0)
    exact = path_cost(problem, placement_policy("milp", {"balance": 0.0, "gap": 0.0}).place(problem))
    for name in ("rank_match", "eplb", "memory_greedy"):
        assert path_cost(problem, placement_policy(name).place(problem)) >= exact - 1e-12


def _loads(problem: PlacementProblem, placement: Placement) -> Sequence[float]:
    load = Counter[int]()
    for layer, row in enumerate(placement.holders):
        for e, held in enumerate(row):
            for node in held:
                load[node] += problem.model.activation[layer][e] / len(held)  # type: ignore[assignment]
    return [load[n] for n in range(len(problem.nodes))]


def test_balance_lowers_the_busiest_nodes_load(drawn_problem: DrawProblem) -> None:
    problem = replace(drawn_problem(3), slots=(40,) * len(drawn_problem(3).nodes), replicas=0)
    near, fair = (placement_policy("milp", {"balance": b}).place(problem) for b in (0.0, 5.0))
    assert max(_loads(problem, fair)) < max(_loads(problem, near))
    assert path_cost(problem, fair) >= path_cost(problem, near)


def test_memory_greedy_fills_unequal_boards_in_step(drawn_problem: DrawProblem) -> None:
    base = drawn_problem(0)
    problem = replace(base, nodes=("big", "small"), expected_delay_s=np.array([[0.0, 0.01], [0.01, 0.0]]),
                      slots=(60, 20), replicas=0)  # fmt: skip
    counts = Counter(held[0] for row in placement_policy("memory_greedy").place(problem).holders for held in row)
    experts = problem.model.layers * problem.model.experts
    assert abs(counts[0] - 0.75 * experts) <= 1


def test_random_placements_follow_the_seed_and_rings_keep_a_slice_together(drawn_problem: DrawProblem) -> None:
    base = drawn_problem(5)
    nodes = tuple(f"n{i}" for i in range(6))
    delay = 0.01 * np.abs(np.arange(6)[:, None] - np.arange(6)[None, :])
    problem = replace(base, nodes=nodes, expected_delay_s=delay, slots=(40,) * 6, replicas=0, trunk_slices=2,
                      ring=(5.0, 4.0, 3.0, 2.0, 1.0, 0.0), model=replace_layers(base))  # fmt: skip
    first = placement_policy("random").place(problem)
    assert first != placement_policy("random").place(replace(problem, seed=problem.seed + 1))
    for name in ("random_in_ring", "random_in_ring_central"):
        placed = placement_policy(name).place(problem)
        for piece, near in zip(placed.gateways, ({3, 4, 5}, {0, 1, 2}), strict=True):
            used = {held[0] for layer in range(piece.first, piece.last + 1) for held in placed.holders[layer]}
            assert used <= near
            assert nodes.index(piece.nodes[0]) in near
    central = placement_policy("random_in_ring_central").place(problem)
    assert [piece.nodes[0] for piece in central.gateways] == ["n3", "n2"]


def replace_layers(problem: PlacementProblem) -> ModelCard:
    even = ((0.5,) * 4,) * 4
    return msgspec.structs.replace(problem.model, layers=4, experts=4, activation=even, importance=even)


def test_an_exact_answer_is_refused_where_it_would_take_too_long(drawn_problem: DrawProblem) -> None:
    base = drawn_problem(1)
    huge = msgspec.structs.replace(base.model, layers=32, experts=64, activation=((0.1,) * 64,) * 32)
    nodes = tuple(f"n{i}" for i in range(20))
    problem = replace(base, nodes=nodes, slots=(400,) * 20, expected_delay_s=np.zeros((20, 20)), model=huge,
                      trunk_slices=1)  # fmt: skip
    with pytest.raises(ConfigError, match="at most 20000 choices"):
        placement_policy("milp").place(problem)
