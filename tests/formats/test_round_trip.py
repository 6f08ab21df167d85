"""What is imported, exported and imported again is identical: for every supplied plan and for plans drawn at random."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ground_controller.formats.hdtn import read_hdtn, write_hdtn
from ground_controller.formats.hypatia_rows import parse_paths, parse_rtts, write_paths, write_rtts
from ground_controller.formats.ion import read_ion, write_ion
from ground_controller.formats.netsatbench import parse_netsatbench, write_netsatbench
from ground_controller.formats.plan import ContactPlan, build_plan
from ground_controller.formats.plan_csv import read_csv, write_csv
from ground_controller.formats.registry import FORMATS, read_plan, write_plan
from hil_config.errors import DataFileError
from tests.formats.conftest import DATA, drawn_plan

SUPPLIED = {
    "ion_cgr_test.ionrc": ("ion", {"hold_ranges": True}, 678),
    "hdtn_cgr_tutorial.json": ("hdtn", {}, 16),
    "hdtn_10nodes.json": ("hdtn", {"lenient": True}, 362),
}


@pytest.mark.parametrize("name", SUPPLIED)
def test_supplied_plans(name: str, tmp_path: Path) -> None:
    form, options, contacts = SUPPLIED[name]
    first = read_plan(DATA / "contact_plans" / name, form, options).plan
    assert len(first.contacts) == contacts
    lenient = {"lenient": True}
    for other in ("csv", form):
        text = write_plan(first, other, {})
        assert isinstance(text, str)
        again = tmp_path / f"again.{other}"
        again.write_text(text)
        assert read_plan(again, other, lenient).plan == first
    # by way of every format that can say it
    assert read_ion(write_ion(first), "ion", lenient=True).plan == first
    assert read_hdtn(write_hdtn(first), "hdtn", lenient=True).plan == first


def test_the_supplied_ion_plan_outlives_its_ranges() -> None:
    """Its ranges end at 36,000 s and its contacts go on: ION would use none of them from there."""
    with pytest.raises(DataFileError, match=r"ionrc:203: contact 8 -> 6 at 36000..37200 s has no range"):
        read_plan(DATA / "contact_plans" / "ion_cgr_test.ionrc", "ion", {})
    cut = read_plan(DATA / "contact_plans" / "ion_cgr_test.ionrc", "ion", {"lenient": True})
    assert (len(cut.plan.contacts), len(cut.warnings)) == (146, 533)


def test_supplied_rows_of_hypatia() -> None:
    paths = (DATA / "hypatia" / "kuiper630_path_manila_dalian.txt").read_text()
    rtts = (DATA / "hypatia" / "kuiper630_rtt_manila_dalian.txt").read_text()
    assert write_paths(parse_paths(paths, "p")) == paths
    assert write_rtts(parse_rtts(rtts, "r")) == rtts
    assert len(parse_rtts(rtts, "r")) == 2000


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_drawn_plans_in_every_format(seed: int, epoch: bool) -> None:
    free = drawn_plan(seed, numbers=False, two_way=False, whole=False, epoch=epoch)
    assert read_csv(write_csv(free), "csv").plan == free
    numbered = drawn_plan(seed, numbers=True, two_way=False, whole=True, epoch=epoch)
    back = read_ion(write_ion(numbered), "ion").plan
    # an absolute ION plan begins with its first record: times are the same, second 0 may be another
    assert back == numbered if not epoch else _from_start(back) == _from_start(numbered)
    if epoch:
        assert read_ion(write_ion(numbered), "ion", epoch_utc=numbered.epoch_utc).plan == numbered
    assert read_hdtn(write_hdtn(numbered), "hdtn", rate_unit="bit/s").plan.contacts == numbered.contacts
    both = drawn_plan(seed, numbers=False, two_way=True, whole=False, epoch=True)
    assert parse_netsatbench(list(write_netsatbench(both).items()), "folder").plan == both


def _from_start(plan: ContactPlan) -> list[tuple[object, ...]]:
    zero = plan.contacts[0].start_s
    return [(one.start_s - zero, one.end_s - zero, one.source, one.target, one.delay_s) for one in plan.contacts]


def test_registrations_and_hypothetical_contacts_survive() -> None:
    text = "a contact -1 -1 7 7 0\na contact 0 0 1 9 0\na range +0 +60 1 2 3\na contact +0 +60 1 2 1000\n"
    plan = read_ion(text, "x").plan
    assert (plan.registered, plan.hypothetical, plan.nodes) == (("7",), (("1", "9"),), ("1", "2", "7", "9"))
    assert read_ion(write_ion(plan), "x").plan == plan == read_csv(write_csv(plan), "x").plan
    with pytest.raises(DataFileError, match="registration"):
        write_hdtn(plan)


def test_ranges_that_differ_by_direction() -> None:
    text = "a range +0 +60 1 2 3\na range +0 +60 2 1 5\na contact +0 +60 1 2 8\na contact +0 +60 2 1 8\n"
    plan = read_ion(text, "x").plan
    assert {(one.source, one.delay_s) for one in plan.contacts} == {("1", 3.0), ("2", 5.0)}
    assert read_ion(write_ion(plan), "x").plan == plan
    alone = read_ion("a range +0 +60 2 1 5\na contact +0 +60 2 1 8\n", "x").plan
    assert read_ion(write_ion(alone), "x").plan == alone
    with pytest.raises(DataFileError, match="no range"):  # the larger number first implies nothing about 1 -> 2
        read_ion("a range +0 +60 2 1 5\na contact +0 +60 1 2 8\n", "x")


def test_a_range_that_changes_during_a_contact_splits_it() -> None:
    plan = read_ion("a range +0 +30 1 2 3\na range +30 +60 1 2 4\na contact +10 +60 1 2 8\n", "x").plan
    assert [(one.start_s, one.end_s, one.delay_s) for one in plan.contacts] == [(10.0, 30.0, 3.0), (30.0, 60.0, 4.0)]


def test_every_format_of_the_table_is_covered_here() -> None:
    assert set(FORMATS) == {"csv", "ion", "hdtn", "netsatbench", "hypatia"}
    assert build_plan([], "x").plan.end_s == 0.0
