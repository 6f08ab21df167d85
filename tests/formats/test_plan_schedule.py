"""A contact plan replayed: what the schedule says of each link is what the plan says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ground_controller.formats.hdtn import read_hdtn
from ground_controller.formats.plan import Contact, ContactPlan, build_plan
from ground_controller.formats.plan_schedule import Sky, Window, schedule_of_plan
from ground_controller.orbit.compile import ScheduleConfig, compile_schedule
from ground_controller.orbit.elements import DEMO_ELEMENTS, read_elements
from hil_config.errors import ConfigError, DataFileError
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.link_state import DOWN, LinkState
from hil_config.wire.schedule_file import decode_schedule, encode_schedule
from tests.formats.conftest import DATA, drawn_plan

EPOCH = "2024-10-21T08:20:00Z"
LIT = Sky(stated=1.0)


def replayed(plan: ContactPlan, duration_s: float, epoch_utc: str = EPOCH) -> LinkSchedule:
    return schedule_of_plan(plan, "p.csv", Window(plan.nodes, epoch_utc, duration_s, 1.0), LIT)


def said(plan: ContactPlan, source: str, target: str, t: float) -> LinkState:
    """The link at plan second t, straight from the contacts."""
    for one in plan.contacts:
        if (one.source, one.target) == (source, target) and one.start_s <= t < one.end_s and one.rate_bit_s > 0.0:
            return LinkState(one.delay_s, one.rate_bit_s, one.loss, True)
    return DOWN


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_every_link_at_any_time(seed: int, shifted: bool) -> None:
    plan = drawn_plan(seed, numbers=False, two_way=False, whole=False, epoch=shifted)
    shift = 3.0 if shifted else 0.0
    duration = max(1.0, plan.end_s - shift - 0.5)
    if plan.end_s - shift < duration:
        return
    found = replayed(plan, duration, "2024-10-21T08:20:03Z" if shifted else EPOCH)
    again = decode_schedule(encode_schedule(found))
    rng = np.random.default_rng(seed)
    edges = [edge - shift for one in plan.contacts for edge in (one.start_s, one.end_s)]
    for t in [*rng.uniform(0.0, duration, 30), *(edge for edge in edges if 0.0 <= edge < duration)]:
        for pair in found.header.pairs:
            wanted, got = said(plan, *pair, t + shift), again.link(*pair, float(t))
            assert got.up == wanted.up
            if wanted.up:
                assert got[:3] == pytest.approx(wanted[:3], rel=1e-6)
    assert found.illumination(plan.nodes[0], duration / 2) == 1.0
    assert found.header.kind == "predicted"


def test_the_tutorial_plan() -> None:
    plan = read_hdtn((DATA / "contact_plans" / "hdtn_cgr_tutorial.json").read_text(), "t", rate_unit="bit/s").plan
    found = replayed(plan, 60.0)
    assert found.link("1", "2", 30.0) == LinkState(1.0, 1e6, 0.0, True)
    assert not found.link("1", "5", 9.9).up and found.link("1", "5", 10.0).up and not found.link("1", "5", 20.0).up
    assert not found.link("5", "2", 5.0).up
    assert found.link("4", "5", 59.9).up


def test_a_plan_that_ends_before_the_campaign_is_refused_by_line() -> None:
    plan = build_plan([Contact(0, 60, "a", "b", 1e6, 0.01, line=2), Contact(0, 50, "b", "a", 1e6, 0.01, line=3)],
                      "p.csv").plan  # fmt: skip
    with pytest.raises(DataFileError, match=r"p\.csv:2: the plan ends at 60 s of the campaign, which lasts 600 s"):
        replayed(plan, 600.0)
    dated = build_plan(plan.contacts, "p.csv", epoch_utc=EPOCH).plan
    with pytest.raises(DataFileError, match="ends at 30 s"):
        replayed(dated, 60.0, "2024-10-21T08:20:30Z")


def test_unknown_names_and_overlaps_are_refused() -> None:
    plan = build_plan([Contact(0, 60, "SAT-1", "SAT-2", 1e6, 0.01, line=2),
                       Contact(30, 90, "SAT-1", "SAT-2", 1e6, 0.01, line=3)], "p.csv", lenient=True).plan  # fmt: skip
    with pytest.raises(ConfigError, match="no node 'SAT-3'") as refused:
        schedule_of_plan(plan, "p.csv", Window(("SAT-1", "SAT-3"), EPOCH, 60.0, 1.0), LIT)
    assert "SAT-1" in refused.value.hint
    with pytest.raises(DataFileError, match=r"p\.csv:3: contact SAT-1 -> SAT-2 at 30 s overlaps"):
        replayed(plan, 60.0)


def test_a_contact_after_the_end_does_not_hold_the_link_up() -> None:
    plan = build_plan([Contact(0, 50, "a", "b", 1e6, 0.01), Contact(700, 800, "a", "b", 1e6, 0.01)], "p.csv").plan
    found = replayed(plan, 600.0)
    assert found.link("a", "b", 49.0).up and not found.link("a", "b", 51.0).up and not found.link("b", "a", 1.0).up


def test_the_factual_plan_is_marked_where_it_departs() -> None:
    predicted = replayed(build_plan([Contact(0, 100, "a", "b", 1e6, 0.01)], "p.csv").plan, 100.0)
    real = build_plan([Contact(10, 60, "a", "b", 1e6, 0.01), Contact(60, 100, "a", "b", 5e5, 0.01)], "f.csv").plan
    window = Window(("a", "b"), EPOCH, 100.0, 1.0)
    found = schedule_of_plan(real, "f.csv", window, LIT, predicted)
    assert found.header.kind == "factual" and len(found.header.predicted_sha256) == 64
    forth = found.arrays.links[found.arrays.links["pair"] == 0]
    assert [(row["time_s"], row["fault"]) for row in forth] == [(0.0, 1), (10.0, 0), (60.0, 1)]


def test_a_predicted_contact_that_never_comes_is_marked_while_it_was_to_last() -> None:
    comes = Contact(60, 100, "a", "b", 1e6, 0.01)
    predicted = replayed(build_plan([Contact(20, 40, "a", "b", 1e6, 0.01), comes], "p.csv").plan, 100.0)
    real = build_plan([comes], "f.csv").plan
    found = schedule_of_plan(real, "f.csv", Window(("a", "b"), EPOCH, 100.0, 1.0), LIT, predicted)
    forth = found.arrays.links[found.arrays.links["pair"] == 0]
    marks = [(row["time_s"], row["up"], row["fault"]) for row in forth]
    assert marks == [(0.0, 0, 0), (20.0, 0, 1), (40.0, 0, 0), (60.0, 1, 0)]
    assert decode_schedule(encode_schedule(found)).link("a", "b", 30.0) == DOWN


def test_sunlight_comes_from_elements_where_there_are_some() -> None:
    names = ("STARLINK-2617", "STARLINK-3672")
    elements = read_elements(DEMO_ELEMENTS, names)
    sky = compile_schedule(ScheduleConfig(EPOCH, 600.0, 10.0, names), elements, "demo")
    plan = build_plan([Contact(0, 600, *names, 1e6, 0.01)], "p.csv").plan
    found = schedule_of_plan(plan, "p.csv", Window(names, EPOCH, 600.0, 10.0), Sky(compiled=sky))
    for t in (0.0, 172.0, 197.0, 600.0):
        assert found.illumination("STARLINK-3672", t) == sky.illumination("STARLINK-3672", t)
    assert found.illumination("STARLINK-3672", 197.0) == 0.0
    assert found.array_power_w("STARLINK-3672", 100.0) == sky.array_power_w("STARLINK-3672", 100.0)
    assert found.link(*names, 300.0) == pytest.approx((0.01, 1e6, 0.0, True))
