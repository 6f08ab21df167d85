"""Worlds in which little or nothing goes well: every selection and placement policy still owes its shape."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ground_controller.policies.eligibility import layer_gateways, usable
from ground_controller.policies.registry import PLACEMENT, SELECTION, placement_policy, selection_policy
from ground_controller.policies.view import PlacementProblem, View

DrawView = Callable[[int], View]
DrawProblem = Callable[[int], PlacementProblem]
STATES: dict[str, dict[str, Any]] = {
    "as drawn": {},
    "batteries full": {"charge": 1.0},
    "batteries empty": {"charge": 0.0},
    "over the soft limit": {"temperature_c": 75.0},
    "over the hard limit": {"temperature_c": 140.0},
    "out of service": {"in_service": False},
    "dead": {"alive": False},
    "idle in the dark": {"calls_per_s": 0.0, "harvest_w": 0.0, "sunlit": 0.0},
}
LINKS = ("as drawn", "all up", "all down", "one way")
drawn = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 10_000)


def hostile(view: View, states: list[str], links: str) -> View:
    """`states` go round the nodes."""
    nodes = tuple(replace(node, **STATES[states[n % len(states)]]) for n, node in enumerate(view.nodes))
    delay_s = view.delay_s.copy()
    if links == "all up":
        delay_s = np.where(np.isfinite(delay_s), delay_s, 0.01)
    elif links == "all down":
        delay_s = np.full_like(delay_s, np.inf)
    elif links == "one way":
        delay_s[np.tril_indices(len(nodes), -1)] = np.inf
    np.fill_diagonal(delay_s, 0.0)
    return replace(view, nodes=nodes, delay_s=delay_s)


@pytest.mark.parametrize("name", sorted(SELECTION))
@drawn
@given(
    seed=seeds, states=st.lists(st.sampled_from(sorted(STATES)), min_size=1, max_size=3), links=st.sampled_from(LINKS)
)
def test_a_selection_stays_within_what_is_eligible(
    name: str, seed: int, states: list[str], links: str, drawn_view: DrawView
) -> None:
    calm, view = drawn_view(seed), hostile(drawn_view(seed), states, links)
    policy = selection_policy(name)
    state = policy.start(len(view.nodes))
    for met in (calm, view, view):  # trouble comes after a tick without
        state, _ = policy.select(state, met)
    _, found = policy.select(state, view)
    assert policy.select(state, view)[1] == found
    assert found.reason.strip() and 0 < found.k_min <= found.k_max <= view.model.experts and 0.0 < found.coverage <= 1.0
    assert all(map(math.isfinite, (found.scale, found.threshold)))
    for layer, (plan, gateway) in enumerate(zip(found.layers, layer_gateways(view), strict=True)):
        assert all(math.isfinite(price) and price >= 0.0 for price in plan.price)
        for expert, hosts in enumerate(plan.hosts):
            eligible = {
                n for n in view.holders[layer][expert]
                if gateway is not None and usable(view.nodes[n])
                and math.isfinite(view.delay_s[gateway, n] + view.delay_s[n, gateway])
            }  # fmt: skip
            assert {share.node for share in hosts} <= eligible and bool(hosts) == bool(eligible)
            assert all(math.isfinite(share.weight) and share.weight > 0.0 for share in hosts)
            assert not hosts or math.fsum(share.weight for share in hosts) == pytest.approx(1.0)


@pytest.mark.parametrize("name", sorted(PLACEMENT))
@settings(parent=drawn, max_examples=15)
@given(
    seed=seeds,
    paths=st.sampled_from(("as drawn", "equal", "one node far")),
    tight=st.booleans(),
    lopsided=st.booleans(),
)
def test_a_placement_is_whole_whatever_the_paths(
    name: str, seed: int, paths: str, tight: bool, lopsided: bool, drawn_problem: DrawProblem
) -> None:
    """`tight`: not one slot more than experts. `lopsided`: rows go to one expert of each layer alone."""
    problem = drawn_problem(seed)
    n, need = len(problem.nodes), problem.model.layers * problem.model.experts
    delay_s = np.full((n, n), 0.01) if paths == "equal" else problem.expected_delay_s.copy()
    if paths == "one node far":
        delay_s[0, :] = delay_s[:, 0] = 3.0
    np.fill_diagonal(delay_s, 0.0)
    slots = tuple(need // n + (i < need % n) for i in range(n)) if tight else problem.slots
    one = (float(problem.model.routing.top_k), *(0.0 for _ in range(problem.model.experts - 1)))
    model = (
        msgspec.structs.replace(problem.model, activation=(one,) * problem.model.layers) if lopsided else problem.model
    )
    asked = replace(problem, expected_delay_s=delay_s, slots=slots, model=model)
    options = {"gap": 0.05} if name == "milp" else {}  # reached long before its limit of time, so always the same
    found = placement_policy(name, options).place(asked)
    assert placement_policy(name, options).place(asked) == found and found.reason.strip()
    assert name != "milp" or found.reason.startswith("exact within 0.05: ")
    used = Counter(n for layer in found.holders for held in layer for n in held)
    assert all(used[i] <= room for i, room in enumerate(slots))
    assert all(1 <= len(held) == len(set(held)) for layer in found.holders for held in layer)
    assert [len(layer) for layer in found.holders] == [problem.model.experts] * problem.model.layers
    assert {name for piece in found.gateways for name in piece.nodes} <= set(problem.nodes)
