"""What holds for every router of the table, and what each one alone promises."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ground_controller.formats.hdtn import read_hdtn
from ground_controller.formats.plan import Contact, ContactPlan, build_plan
from ground_controller.routing import contact_graph
from ground_controller.routing.contact_graph import contact_table, earliest_arrivals
from ground_controller.routing.route import Message, Route, travel
from ground_controller.routing.routers import ROUTERS, make_router
from hil_config.errors import ConfigError

DATA = Path(__file__).parents[1] / "data" / "contact_plans"
SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, contacts: int = 9, nodes: int = 4) -> ContactPlan:
    """Whole numbers, so that arrivals tie; overlaps are kept."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(contacts):
        a, b = rng.permutation(nodes)[:2] + 1
        start = float(rng.integers(0, 12))
        end = start + float(rng.integers(1, 8))
        rate, delay = float(rng.choice([1.0, 2.0])), float(rng.integers(0, 3))
        found.append(Contact(start, end, str(a), str(b), rate, delay))
    whole = (Contact(0.0, 1.0, str(n), str(n % nodes + 1), 0.0, 0.0) for n in range(1, nodes + 1))  # names all nodes
    return build_plan([*found, *whole], "drawn", lenient=True).plan


def message(seed: int, plan: ContactPlan) -> Message:
    rng = np.random.default_rng(seed + 1)
    a, b = rng.permutation(len(plan.nodes))[:2]
    return Message(plan.nodes[a], plan.nodes[b], float(rng.integers(0, 4)), float(rng.choice([0.0, 1.0, 2.0])))


def key(contacts: tuple[Contact, ...], asked: Message) -> tuple[float, int, float, int] | None:
    """(arrival, contacts, - first end, entry node) of a sequence of contacts; None if it cannot carry the message."""
    t, node = asked.at_s, asked.source
    for one in contacts:
        leaves = max(t, one.start_s) + asked.size_bit / one.rate_bit_s
        if one.source != node or leaves > one.end_s:
            return None
        t, node = leaves + one.delay_s, one.target
    if node != asked.target:
        return None
    return (t, len(contacts), -min(one.end_s for one in contacts), int(contacts[0].target))


def best_of_all(plan: ContactPlan, asked: Message) -> tuple[float, int, float, int] | None:
    """The best key over every sequence of contacts that visits no node twice."""
    usable = [one for one in plan.contacts if one.rate_bit_s > 0.0]
    keys = [
        found
        for length in range(1, len(plan.nodes))
        for sequence in itertools.permutations(usable, length)
        if len({one.source for one in sequence}) == length and (found := key(sequence, asked))
    ]
    return min(keys, default=None)


def check(found: Route, asked: Message) -> None:
    assert (found.nodes[0], found.nodes[-1]) == (asked.source, asked.target)
    t = asked.at_s
    for before, hop in itertools.pairwise(found.hops):
        assert before.contact.target == hop.contact.source
    for hop in found.hops:
        assert hop.leaves_s == max(t, hop.contact.start_s) + asked.size_bit / hop.contact.rate_bit_s
        assert hop.arrives_s == hop.leaves_s + hop.contact.delay_s
        t = hop.arrives_s
    assert found.arrival_s == t


@pytest.mark.parametrize("name", ROUTERS)
@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_routes_are_whole_and_asking_changes_nothing(name: str, seed: int) -> None:
    plan = drawn(seed)
    asked = message(seed, plan)
    router = make_router(name, plan)
    assert router.name == name
    found = router.route(asked)
    assert router.route(asked) == found == make_router(name, plan).route(asked)
    if found is not None:
        check(found, asked)
        real = travel(found, asked, plan)
        if name != "snapshot_dijkstra":  # what is planned with time in mind happens as planned
            assert (real.arrived_s, real.node) == (found.arrival_s, asked.target)
    for name_of in plan.nodes:
        assert router.route(Message(name_of, name_of, 0.0)) is None
    with pytest.raises(ConfigError, match="no node '99'"):
        router.route(Message("99", plan.nodes[0], 0.0))


@pytest.mark.parametrize("name", ROUTERS)
@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_booking_takes_volume_and_only_from_the_route(name: str, seed: int) -> None:
    plan = drawn(seed)
    asked = message(seed, plan)
    router = make_router(name, plan)
    full = {one: router.residual_bit(one) for one in plan.contacts}
    assert all(left == one.volume_bit for one, left in full.items())
    found = router.route(asked)
    if found is None:
        return
    router.book(found, asked.size_bit)
    used = {hop.contact for hop in found.hops}
    for one, left in full.items():
        assert router.residual_bit(one) <= left
        if one not in used:
            assert router.residual_bit(one) == left
        elif asked.size_bit > 0.0:
            assert router.residual_bit(one) < left
    again = router.route(asked)
    if again is not None and name != "snapshot_dijkstra":
        assert again.arrival_s >= found.arrival_s


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_cgr_is_the_best_by_all_four_keys(seed: int) -> None:
    plan = drawn(seed, contacts=6)
    asked = message(seed, plan)
    found = make_router("cgr", plan).route(asked)
    wanted = best_of_all(plan, asked)
    assert (found is None) == (wanted is None)
    if found is not None:
        assert key(tuple(hop.contact for hop in found.hops), asked) == wanted


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_time_expanded_is_as_early_as_cgr_and_all_to_all_agrees(seed: int) -> None:
    plan = drawn(seed, contacts=14)
    asked = message(seed, plan)
    early, best = (make_router(name, plan).route(asked) for name in ("time_expanded", "cgr"))
    table = contact_table(plan)
    arrival = earliest_arrivals(table, asked.at_s, asked.size_bit)
    there = float(arrival[table.number[asked.source], table.number[asked.target]])
    for found in (early, best):
        assert (found.arrival_s if found else math.inf) == there


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_compiled_and_plain_agree_to_the_bit(seed: int) -> None:
    table = contact_table(drawn(seed, contacts=20, nodes=6))
    size = len(table.nodes)
    ends = float(np.random.default_rng(seed).choice([-np.inf, 6.0]))
    columns = (table.first, table.target, table.start_s, table.end_s, table.rate_bit_s, table.delay_s)
    busy = np.full(table.end_s.size, -np.inf)
    both = []
    for layers, earliest in (
        (contact_graph.layers_plain, contact_graph.earliest_plain),
        (contact_graph.layers_compiled, contact_graph.earliest_compiled),
    ):
        arrival, taken, all_pairs = np.zeros((size, size)), np.zeros((size, size), np.int32), np.empty((size, size))
        last = layers(*columns, busy, 0, 1.0, 1.0, ends, -1, arrival, taken)
        earliest(*columns, 1.0, 1.0, all_pairs)
        both.append((last, arrival[: last + 1], taken[: last + 1], all_pairs))
    assert both[0][0] == both[1][0]
    for one, other in zip(both[0][1:], both[1][1:], strict=True):
        assert (np.asarray(one) == np.asarray(other)).all()


def test_hdtn_tutorial_plan() -> None:
    """Node 1 to node 5 at 0 s: 1 - 3 - 4 - 5, there at 3 s (HDTN, TestRouting, DijkstraPyCGRTutorialTestCase)."""
    plan = read_hdtn((DATA / "hdtn_cgr_tutorial.json").read_text(), "tutorial", rate_unit="bit/s").plan
    found = make_router("cgr", plan).route(Message("1", "5", 0.0))
    assert found is not None
    assert (found.arrival_s, found.nodes) == (3.0, ("1", "3", "4", "5"))
    assert earliest_arrivals(contact_table(plan), 0.0)[0, 4] == 3.0


def test_hdtn_ten_nodes_plan() -> None:
    """Node 20 to node 40 at 0 s goes to 3686 first (HDTN, RouterTests, Dijkstra10NodesTestCase)."""
    text = (DATA / "hdtn_10nodes.json").read_text()
    plan = read_hdtn(text, "ten", rate_unit="bit/s", lenient=True).plan
    for name in ("cgr", "time_expanded"):
        found = make_router(name, plan).route(Message("20", "40", 0.0))
        assert found is not None
        assert found.next_node == "3686"


def test_each_key_decides_in_its_turn() -> None:
    def best(*contacts: Contact) -> tuple[str, ...]:
        found = make_router("cgr", build_plan(contacts, "x", lenient=True).plan).route(Message("1", "9", 0.0))
        assert found is not None
        return found.nodes

    def way(node: str, leaves: float, ends: float) -> tuple[Contact, Contact]:
        return Contact(leaves, ends, "1", node, 1, 0), Contact(10, 20, node, "9", 1, 0)

    # arrival: 3 goes on at 9 s
    assert best(*way("2", 0, 5), Contact(0, 5, "1", "3", 1, 0), Contact(9, 20, "3", "9", 1, 0)) == ("1", "3", "9")
    # contacts: node 2 is reached at once by way of 3 and at 4 s directly, and waits until 10 s all the same
    assert best(*way("2", 4, 5), Contact(0, 5, "1", "3", 1, 0), Contact(0, 5, "3", "2", 1, 0)) == ("1", "2", "9")
    # termination: the contact to 4 lasts longer
    assert best(*way("2", 0, 5), *way("4", 0, 7)) == ("1", "4", "9")
    # entry node
    assert best(*way("4", 0, 5), *way("2", 0, 5)) == ("1", "2", "9")


def test_backlog_moves_later_messages_to_another_way() -> None:
    plan = build_plan([Contact(0, 10, "1", "2", 1, 0), Contact(12, 20, "1", "2", 1, 0)], "x").plan
    router = make_router("cgr", plan)
    arrivals = []
    for _ in range(4):
        found = router.route(Message("1", "2", 0.0, 4.0))
        if found is None:
            break
        router.book(found, 4.0)
        arrivals.append(found.arrival_s)
    assert arrivals == [4.0, 8.0, 16.0, 20.0]  # the third no longer fits into what is left of the first contact
    assert router.residual_bit(plan.contacts[0]) == 2.0
    assert router.route(Message("1", "2", 0.0, 4.0)) is None


@pytest.mark.parametrize("name", ROUTERS)
def test_a_contact_that_stands_twice_counts_once(name: str) -> None:
    router = make_router(name, build_plan([Contact(0, 10, "1", "2", 1, 0)] * 2, "x", lenient=True).plan)
    arrivals = []
    for _ in range(6):
        found = router.route(Message("1", "2", 0.0, 4.0))
        if found is not None and found.arrival_s <= 10.0:
            router.book(found, 4.0)
            arrivals.append(found.arrival_s)
    assert arrivals == [4.0, 8.0]


def test_a_prediction_meets_what_happens() -> None:
    predicted = build_plan([Contact(0, 10, "1", "2", 8, 1), Contact(20, 30, "2", "3", 8, 1)], "x").plan
    asked = Message("1", "3", 0.0, 8.0)
    found = make_router("cgr", predicted).route(asked)
    assert found is not None
    late = build_plan([Contact(0, 10, "1", "2", 8, 1), Contact(25, 30, "2", "3", 4, 1)], "x").plan
    assert travel(found, asked, late).arrived_s == 28.0
    lost = travel(found, asked, build_plan([Contact(0, 10, "1", "2", 8, 1)], "x").plan)
    assert (lost.arrived_s, lost.node, len(lost.hops)) == (math.inf, "2", 1)


def test_snapshot_routing_does_not_see_the_end_of_a_contact() -> None:
    plan = build_plan([Contact(0, 3, "1", "2", 1, 2), Contact(0, 2.5, "2", "3", 1, 0), Contact(0, 9, "1", "3", 1, 7)],
                      "x").plan  # fmt: skip
    asked = Message("1", "3", 0.0, 1.0)
    blind, timed = (make_router(name, plan).route(asked) for name in ("snapshot_dijkstra", "cgr"))
    assert blind is not None and timed is not None
    assert blind.nodes == ("1", "2", "3") and travel(blind, asked, plan).arrived_s == math.inf
    assert timed.nodes == ("1", "3") and travel(timed, asked, plan).arrived_s == timed.arrival_s == 8.0


def test_unknown_router() -> None:
    with pytest.raises(ConfigError, match="no router is called 'ospf'") as refused:
        make_router("ospf", build_plan([], "x").plan)
    assert "cgr" in refused.value.hint
