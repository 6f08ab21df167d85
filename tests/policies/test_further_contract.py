"""What every precision, transmission and replacement policy owes, over every policy in the tables."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ground_controller.policies.registry import (
    PRECISION,
    REPLACEMENT,
    TRANSMISSION,
    precision_policy,
    replacement_policy,
    transmission_policy,
)
from ground_controller.policies.resources import Resources, Variant
from ground_controller.policies.view import View
from hil_config.errors import ConfigError
from hil_config.wire.hidden_codec import CODECS

DrawView = Callable[[int], View]
ASK: dict[str, Callable[[Any, Any, View, Resources], Any]] = {
    "precision": lambda policy, state, view, resources: policy.choose(state, view, resources),
    "transmission": lambda policy, state, view, resources: policy.rule(state, view, resources),
    "replacement": lambda policy, state, view, resources: policy.move(state, view, resources),
}
MAKE: dict[str, Callable[[str], Any]] = {
    "precision": precision_policy, "transmission": transmission_policy, "replacement": replacement_policy,
}  # fmt: skip
EVERY = [("precision", name) for name in PRECISION] + [("transmission", name) for name in TRANSMISSION]
EVERY += [("replacement", name) for name in REPLACEMENT]
every = pytest.mark.parametrize(("kind", "name"), EVERY)
drawn = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def resources_of(view: View, seed: int = 0) -> Resources:
    rng, n = np.random.default_rng(seed), len(view.nodes)
    shape = (view.model.layers, view.model.experts)
    nats = [tuple(map(tuple, rng.normal(scale, scale, size=shape).tolist())) for scale in (1e-3, 1e-2)]
    rate = np.where(np.isfinite(view.delay_s), 10.0 ** rng.uniform(4, 9), 0.0)
    return Resources(
        variants=(Variant("int8", 1.0, nats[0]), Variant("int4", 0.55, nats[1])), rate_bit_s=rate,
        sent_bit_s=tuple(float(x) for x in rng.uniform(0, 1e6, size=n)), transmit_j_per_bit=1.5e-7,
        sensitivity=tuple(float(x) for x in rng.random(view.model.layers)), codec="fp16",
        free_slots=tuple(int(x) for x in rng.integers(0, 4, size=n)), expert_bits=4e5,
    )  # fmt: skip


@every
@drawn
@given(seed=st.integers(0, 10_000))
def test_answers_are_pure_fit_and_have_a_reason(kind: str, name: str, seed: int, drawn_view: DrawView) -> None:
    """Worlds with outages, batteries full and empty, everything over temperature, and everybody dead."""
    view = drawn_view(seed)
    resources = resources_of(view, seed)
    policy = MAKE[kind](name)
    state = policy.start(len(view.nodes))
    for _ in range(4):
        state, _ = ASK[kind](policy, state, view, resources)
    before = copy.deepcopy((state, view.nodes, view.holders))
    after, answer = ASK[kind](policy, state, view, resources)
    assert (after, answer) == ASK[kind](policy, state, view, resources)
    assert before == (state, view.nodes, view.holders)
    assert answer.reason.strip()
    assert msgspec.json.decode(msgspec.json.encode(after), type=type(after)) == after
    if kind == "precision" and answer.of:
        for held, kinds in zip(view.holders, answer.of, strict=True):
            assert [len(nodes) for nodes in held] == [len(of) for of in kinds]
            assert {p for of in kinds for p in of} <= {"int8", "int4"}
    if kind == "transmission" and answer.rules is not None:
        assert answer.rules.finest in CODECS
        for rule in answer.rules.links:
            assert rule.source != rule.target
            assert 0 <= rule.source < len(view.nodes) and 0 <= rule.target < len(view.nodes)
            assert rule.most_bytes >= 0 and math.isfinite(rule.price) and rule.price >= 0.0
    if kind == "replacement":
        given = [0] * len(view.nodes)
        for move in answer.moves:
            assert move.source in view.holders[move.layer][move.expert]
            assert move.target not in view.holders[move.layer][move.expert]
            target = view.nodes[move.target]
            assert target.alive and target.in_service
            assert target.temperature_c <= view.limits.temperature_soft_c
            given[move.target] += 1
        assert all(count <= room for count, room in zip(given, resources.free_slots, strict=True))


def hot(view: View, temperature_c: float) -> View:
    return replace(view, nodes=tuple(replace(node, temperature_c=temperature_c) for node in view.nodes))


@pytest.mark.parametrize("name", ["by_heat", "by_importance_and_heat"])
def test_precision_falls_with_heat_and_comes_back(name: str, calm: View) -> None:
    policy, shares = precision_policy(name), []
    state = policy.start(4)
    for temperature_c in (40.0, 60.0, 62.0, 64.0, 66.0, 68.0, 75.0, 64.0, 55.0):
        view = hot(calm, temperature_c)
        state, answer = policy.choose(state, view, resources_of(view))
        kinds = [p for row in answer.of for held in row for p in held]
        shares.append(kinds.count("int4") / len(kinds))
    up, down = shares[:7], shares[6:]
    assert shares[0] == 0.0 and max(shares) == shares[6] == 1.0 and shares[-1] == 0.0
    assert up == sorted(up) and down == sorted(down, reverse=True)


def test_the_least_important_expert_is_coarsened_first(calm: View) -> None:
    nats = [[0.5, 0.01, 0.4, 0.3], [0.2, 0.3, 0.4, 0.5]]
    table = tuple(map(tuple, nats))
    variants = (Variant("int8", 1.0, ((0.0,) * 4,) * 2), Variant("int4", 0.5, table))
    view = hot(calm, 60.0 + 0.1 * 8.0)
    policy = precision_policy("by_importance_and_heat")
    _, answer = policy.choose(policy.start(4), view, replace(resources_of(view), variants=variants))
    coarse = {(n, e) for n, row in enumerate(answer.of) for e, held in enumerate(row) if "int4" in held}
    assert (0, 1) in coarse
    assert (0, 0) not in coarse and (1, 3) not in coarse


def test_hysteresis_keeps_a_level_between_two_ticks(calm: View) -> None:
    policy = precision_policy("by_heat", {"band": 0.3})
    state = policy.start(4)
    for temperature_c, wanted in ((67.0, "int4"), (64.5, "int4"), (63.5, "int4"), (60.0, "int8"), (64.5, "int8")):
        state, answer = policy.choose(state, hot(calm, temperature_c), resources_of(calm))
        assert answer.of[0][0][0] == wanted


def test_budgets_follow_rate_and_deadline(calm: View) -> None:
    policy = transmission_policy("per_link_budget", {"deadline_ms": 20.0})
    resources = replace(resources_of(calm), rate_bit_s=np.full((4, 4), 1e6))
    rules = policy.rule(policy.start(4), calm, resources)[1].rules
    assert rules is not None
    # 10 ms of the 20 are left after the delay: 1e6 bit/s carry 1250 bytes in them.
    assert {rule.most_bytes for rule in rules.links} == {1250}
    assert {(rule.source, rule.target) for rule in rules.links if rule.source == 3} == {(3, 0), (3, 1)}


def test_frames_get_dearer_with_heat_and_over_the_byte_budget(calm: View) -> None:
    policy = transmission_policy("importance", {"budget_kbit_s": 100.0})

    def dearest(view: View, sent: float, ticks: int = 20) -> float:
        state, price = policy.start(4), 0.0
        for _ in range(ticks):
            state, answer = policy.rule(state, view, replace(resources_of(view), sent_bit_s=(sent,) * 4))
            assert answer.rules is not None
            price = max((rule.price for rule in answer.rules.links), default=0.0)
        return price

    assert dearest(calm, 5e4) == 0.0
    assert 0.0 < dearest(calm, 3e5, 5) < dearest(calm, 3e5) <= 0.3
    assert dearest(hot(calm, 70.0), 5e4) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("make", "name", "options"),
    [
        (precision_policy, "by_heat", {"precisions": "int8 int5"}),
        (precision_policy, "nobody", {}),
        (transmission_policy, "importance", {"finest": "fp8"}),
        (transmission_policy, "per_link_budget", {"deadline_ms": -1.0}),
        (replacement_policy, "forecast", {"patience": 0}),
    ],
)
def test_wrong_options_are_named(make: Callable[..., Any], name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make(name, options)
