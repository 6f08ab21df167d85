"""Ways between a bench's nodes: over others where the direct link is down or slow, and weights booked in turn."""

from __future__ import annotations

import math

import pytest

from ground_controller.formats.plan import Contact, ContactPlan
from ground_controller.formats.plan_schedule import Sky, Window, schedule_of_plan
from ground_controller.routing.ways import FrameWays, WeightCarrier, contact_plan
from hil_config.wire.link_schedule import LinkSchedule

NODES, SATELLITES = ("a", "b", "c"), ("SAT A", "SAT B", "SAT C")


def schedule(
    *links: tuple[float, float, str, float, float], until_s: float = 100.0, step_s: float = 1.0
) -> LinkSchedule:
    """Both ways of (start, end, pair, rate in bit/s, delay in s)."""
    names = dict(zip("abc", SATELLITES, strict=True))
    contacts = [
        Contact(start, end, names[x], names[y], rate, delay)
        for start, end, pair, rate, delay in links
        for x, y in ((pair[0], pair[1]), (pair[1], pair[0]))
    ]
    plan = ContactPlan(tuple(sorted(contacts)))
    return schedule_of_plan(plan, "plan", Window(SATELLITES, "2024-10-21T08:20:00Z", until_s, step_s), Sky(stated=1.0))


STAR = ((0.0, 100.0, "ab", 1e6, 0.01), (0.0, 100.0, "bc", 1e6, 0.01))


@pytest.mark.parametrize("router", ["snapshot_dijkstra", "time_expanded", "cgr"])
def test_frames_go_over_others_while_the_direct_link_is_down_or_slow(router: str) -> None:
    down = FrameWays(router, schedule(*STAR, (50.0, 100.0, "ac", 1e6, 0.012)), SATELLITES, NODES, 1_000.0)
    everybody = (True, True, True)
    assert set(down.ways(20.0, everybody)) == {(0, 1, 2), (2, 1, 0)}
    assert down.ways(60.0, everybody) == ()
    assert down.ways(20.0, (True, False, True)) == (), "the dead relay nothing"
    ending = FrameWays(router, schedule(*STAR), SATELLITES, NODES, 1_000.0)
    assert ending.ways(100.0, everybody) == ending.ways(101.0, everybody) == ending.ways(99.0, everybody) != ()
    slow = FrameWays(router, schedule(*STAR, (0.0, 100.0, "ac", 1e4, 0.012)), SATELLITES, NODES, 1_000.0)
    assert set(slow.ways(20.0, everybody)) == {(0, 1, 2), (2, 1, 0)}, "0.1 s on the line"


@pytest.mark.parametrize("router", ["snapshot_dijkstra", "time_expanded", "cgr"])
def test_no_frame_goes_over_contacts_that_ended_before_the_schedule(router: str) -> None:
    early = tuple((start, 40.0, pair, rate, delay) for start, _, pair, rate, delay in STAR)
    elsewhere = Contact(0.0, 100.0, "X", "Y", 1.0, 0.0)
    names = dict(zip("abc", SATELLITES, strict=True))
    plan = ContactPlan((*(Contact(s, e, names[p[0]], names[p[1]], r, d) for s, e, p, r, d in early), elsewhere))
    window = Window(SATELLITES, "2024-10-21T08:20:00Z", 100.0, 1.0)
    ways = FrameWays(router, schedule_of_plan(plan, "plan", window, Sky(stated=1.0)), SATELLITES, NODES, 1_000.0)
    assert ways.ways(39.0, (True,) * 3) == ((0, 1, 2),)
    assert ways.ways(40.0, (True,) * 3) == ways.ways(90.0, (True,) * 3) == ways.ways(100.0, (True,) * 3) == ()


def test_a_frame_does_not_wait_for_a_contact() -> None:
    gap = schedule((0.0, 20.0, "ab", 1e6, 0.01), (30.0, 100.0, "bc", 1e6, 0.01))
    for router in ("time_expanded", "cgr"):
        assert FrameWays(router, gap, SATELLITES, NODES, 1_000.0).ways(5.0, (True,) * 3) == ()


def test_weights_wait_book_and_strand() -> None:
    gap = schedule((0.0, 20.0, "ab", 1e6, 0.01), (30.0, 100.0, "bc", 1e6, 0.01))
    carrier = WeightCarrier(gap, gap, SATELLITES, NODES, 0.5)
    first = carrier.carry(0, 2, 5.0, 1e6, (True,) * 3)
    second = carrier.carry(0, 2, 5.0, 1e6, (True,) * 3)
    assert first is not None and second is not None
    assert [(leg.source, leg.target) for leg in first.legs] == [(0, 1), (1, 2)]
    assert first.arrived_s == pytest.approx(32.01) and second.arrived_s == pytest.approx(34.01)
    assert carrier.carry(0, 2, 5.0, 1e6, (True, False, True)) is None
    cut = schedule((0.0, 20.0, "ab", 1e6, 0.01), (99.0, 100.0, "bc", 1e6, 0.01))
    lost = WeightCarrier(gap, cut, SATELLITES, NODES, 0.5).carry(0, 2, 5.0, 1e6, (True,) * 3)
    assert lost is not None and math.isinf(lost.arrived_s) and lost.expected_s == pytest.approx(32.01)


def test_weights_take_as_long_as_a_contact_lasts() -> None:
    both = schedule((0.0, 60.0, "ab", 1e6, 0.01), (0.0, 100.0, "bc", 1e6, 0.01))
    carrier = WeightCarrier(both, both, SATELLITES, NODES, 0.5)
    first, second, third = (carrier.carry(0, 1, 5.0, bits, (True,) * 3) for bits in (15e6, 12e6, 1e6))
    assert first is not None and second is not None
    assert (first.legs[0].begins_s, first.arrived_s) == pytest.approx((5.0, 35.01))
    assert (second.legs[0].begins_s, second.arrived_s) == pytest.approx((35.0, 59.01))
    assert third is None, "the contact is full"
    out = schedule((0.0, 40.0, "ab", 1e6, 0.01), (0.0, 100.0, "bc", 1e6, 0.01))
    carrier = WeightCarrier(both, out, SATELLITES, NODES, 0.5)
    first, second = (carrier.carry(0, 1, 5.0, bits, (True,) * 3) for bits in (15e6, 12e6))
    assert first is not None and first.arrived_s == pytest.approx(35.01)
    assert second is not None and math.isinf(second.arrived_s), "its turn would have been from 35 s to 59 s"
    late = schedule((45.0, 60.0, "ab", 1e6, 0.01), (0.0, 100.0, "bc", 1e6, 0.01))
    happened = WeightCarrier(both, late, SATELLITES, NODES, 0.5).carry(0, 1, 5.0, 5e6, (True,) * 3)
    assert happened is not None and happened.arrived_s == pytest.approx(55.01)


def test_contacts_follow_the_schedule() -> None:
    plan = contact_plan(schedule(*STAR), SATELLITES, NODES, 0.5)
    assert plan.nodes == NODES
    assert sum(one.volume_bit for one in plan.contacts) == pytest.approx(4 * 100 * 0.5e6)


def test_contacts_between_the_steps_of_a_schedule_are_seen() -> None:
    short = schedule((3.5, 9.0, "ab", 1e6, 0.01), (0.0, 100.0, "bc", 1e6, 0.01), step_s=25.0)
    plan = contact_plan(short, SATELLITES, NODES)
    assert [(one.start_s, one.end_s) for one in plan.contacts if (one.source, one.target) == ("a", "b")] == [(3.5, 9.0)]
    ways = FrameWays("cgr", short, SATELLITES, NODES, 1_000.0)
    assert set(ways.ways(4.0, (True,) * 3)) == {(0, 1, 2), (2, 1, 0)} and ways.ways(9.0, (True,) * 3) == ()
