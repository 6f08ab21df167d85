"""The knapsack: never over the budget, never below its own bound, and as good as trying everything."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil_config.errors import UsageError
from models.budget import Option, Place, allocate, hull

NAMES = ("drop", "int4", "int8", "fp32")


def brute(choices: dict[Place, list[Option]], budget: float) -> float:
    """The least nats over every allocation within the budget."""
    return min(
        sum(o.nats for o in combination)
        for combination in itertools.product(*choices.values())
        if sum(o.weight for o in combination) <= budget
    )


bytes_ = st.integers(0, 60)
experts = st.lists(
    st.lists(st.tuples(bytes_, st.floats(0, 1, width=16)), min_size=1, max_size=4), min_size=1, max_size=5
)


@settings(max_examples=300)
@given(experts, st.floats(0, 1))
def test_within_the_budget_above_the_bound_and_near_the_best(raw: list[list[tuple[int, float]]], share: float) -> None:
    choices: dict[Place, list[Option]] = {
        (0, e): [Option(NAMES[i], float(w), n) for i, (w, n) in enumerate(line)] for e, line in enumerate(raw)
    }
    least = sum(min(o.weight for o in line) for line in choices.values())
    most = sum(max(o.weight for o in line) for line in choices.values())
    budget = least + share * (most - least)
    found, best = allocate(choices, budget), brute(choices, budget)
    assert found.weight <= budget + 1e-9
    assert found.bound <= best + 1e-9 <= found.nats + 2e-9
    largest = max(a.nats - b.nats for line in choices.values() for a in line for b in line)
    assert found.nats - best <= largest + 1e-9, "at most one step of one expert from the best"


@given(st.lists(st.tuples(bytes_, st.floats(0, 1, width=16)), min_size=1, max_size=8))
def test_the_hull_falls_and_flattens(raw: list[tuple[int, float]]) -> None:
    line = hull([Option("x", float(w), n) for w, n in raw])
    gains = [(a.nats - b.nats) / (b.weight - a.weight) for a, b in itertools.pairwise(line)]
    assert gains == sorted(gains, reverse=True) and all(gain > 0 for gain in gains)
    assert line[-1].nats == min(n for _, n in raw) and line[0].weight == min(w for w, _ in raw)


def test_equal_weights_are_solved_exactly() -> None:
    """The usual case: every shard of a precision has the same size."""
    costs = [(0.5, 0.02), (0.4, 0.01), (0.05, 0.001), (0.01, 0.0005), (0.3, 0.2), (0.02, 0.0)]
    choices: dict[Place, list[Option]] = {
        (0, e): [Option("drop", 0, d), Option("int4", 20, q), Option("int8", 36, 0.0)] for e, (d, q) in enumerate(costs)
    }
    for budget in range(0, 36 * 6 + 1, 4):
        found = allocate(choices, budget)
        assert found.nats == pytest.approx(brute(choices, budget), abs=1e-12), budget


def test_a_budget_that_nothing_fits_names_the_least() -> None:
    with pytest.raises(UsageError, match="the cheapest allocation needs 20"):
        allocate({(0, 0): [Option("int4", 20, 0.1)]}, 19)
