"""Units are said, never guessed; what cannot be is refused by file and line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ground_controller.formats.hdtn import read_hdtn, write_hdtn
from ground_controller.formats.ion import read_ion, write_ion
from ground_controller.formats.netsatbench import parse_netsatbench, write_netsatbench
from ground_controller.formats.plan import Contact, build_plan
from ground_controller.formats.plan_csv import read_csv
from hil_config.errors import DataFileError


def hdtn(**changes: Any) -> str:
    item = {"contact": 0, "source": 1, "dest": 2, "startTime": 0, "endTime": 60, "rateBitsPerSec": 1000, "owlt": 2}
    return json.dumps({"contacts": [{key: value for key, value in {**item, **changes}.items() if value is not None}]})


def test_ion_rates_are_bytes() -> None:
    (contact,) = read_ion("a range +0 +60 1 2 3\na contact +0 +60 1 2 131072\n", "x").plan.contacts
    assert (contact.rate_bit_s, contact.delay_s) == (1_048_576.0, 3.0)


def test_ion_reference_times() -> None:
    text = "@ +100\na range +0 +60 1 2 3\na contact +0 +20 1 2 8\n@ +20\na contact +0 +20 1 2 8\n"
    assert [one.start_s for one in read_ion(text, "x").plan.contacts] == [100.0, 120.0]
    absolute = "@ 2024/10/21-08:20:00\na range +0 +60 1 2 3\na contact 2024/10/21-08:20:10 +20 1 2 8\n"
    plan = read_ion(absolute, "x").plan
    assert (plan.epoch_utc, plan.contacts[0].start_s, plan.contacts[0].end_s) == ("2024-10-21T08:20:00Z", 10.0, 20.0)
    mixed = "a range +0 +60 1 2 3\na contact 2024/10/21-08:20:10 +20 1 2 8\n"
    with pytest.raises(DataFileError, match="x:1: this time counts from when ionadmin started") as refused:
        read_ion(mixed, "x")
    assert "--epoch-utc" in refused.value.hint
    assert read_ion(mixed, "x", epoch_utc="2024-10-21T08:20:00Z").plan.contacts[0].start_s == 10.0


def test_what_an_ion_node_says_to_itself_is_left_out() -> None:
    plan = "a contact +0 +60 1 2 8\na range +0 +60 1 2 1\n"
    alone = "a contact +1 +86400 1 1 1000000\na contact +1 +86400 1 1 1000000\na range +1 +86400 1 1 1\n"
    found = read_ion(alone + plan, "x")
    assert found.plan == read_ion(plan, "x").plan
    assert any("a contact +1 +86400 1 1" in warning for warning in found.warnings)


def test_hdtn_factors_are_asked_about() -> None:
    with pytest.raises(DataFileError, match="more than 1 Tbit/s") as refused:
        read_hdtn(hdtn(rateBitsPerSec=10**13), "x")
    assert "--rate-unit ubit/s" in refused.value.hint
    assert read_hdtn(hdtn(rateBitsPerSec=10**13), "x", rate_unit="ubit/s").plan.contacts[0].rate_bit_s == 1e7
    with pytest.raises(DataFileError, match="no certain unit"):
        read_hdtn(hdtn(rateBitsPerSec=None, rate=10), "x")
    old = read_hdtn(hdtn(rateBitsPerSec=None, rate=10), "x", rate_unit="mbit/s")
    assert old.plan.contacts[0].rate_bit_s == 1e7
    assert read_hdtn(hdtn(), "x", rate_unit="byte/s").plan.contacts[0].rate_bit_s == 8000.0
    assert not read_hdtn(hdtn(), "x").warnings
    (doubt,) = read_hdtn(hdtn(owlt=1), "x").warnings
    assert "convertCpToJson" in doubt and "--rate-unit byte/s" in doubt
    assert not read_hdtn(hdtn(owlt=1), "x", rate_unit="bit/s").warnings


def epochs(*links: dict[str, Any]) -> list[tuple[str, str]]:
    first = {"time": "2024-06-01T12:00:00Z", "links-add": list(links)}
    ends = [{"endpoint1": one["endpoint1"], "endpoint2": one["endpoint2"]} for one in links]
    return [
        ("e0.json", json.dumps(first)),
        ("e1.json", json.dumps({"time": "2024-06-01T12:01:00Z", "links-del": ends})),
    ]


@pytest.mark.parametrize(
    ("rate", "delay", "bit_s", "delay_s"),
    [("10mbit", "5ms", 1e7, 0.005), ("1mbps", "5", 8e6, 5e-6), ("100", "0.1s", 100.0, 0.1),
     ("1Kibit", "12.5usecs", 1024.0, 12.5e-6)],
)  # fmt: skip
def test_netsatbench_speaks_tc(rate: str, delay: str, bit_s: float, delay_s: float) -> None:
    link = {"endpoint1": "usr1", "endpoint2": "sat2", "rate": rate, "loss": 5, "delay": delay}
    plan = parse_netsatbench(epochs(link), "x").plan
    assert [(one.source, one.target) for one in plan.contacts] == [("sat2", "usr1"), ("usr1", "sat2")]
    for one in plan.contacts:
        assert (one.rate_bit_s, one.delay_s, one.loss, one.end_s) == (bit_s, delay_s, 0.05, 60.0)


def test_netsatbench_updates_keep_what_they_do_not_say_and_ends_are_asked_for() -> None:
    link = {"endpoint1": "a", "endpoint2": "b", "rate": "1mbit", "loss": 1, "delay": "2ms"}
    change = {"endpoint1": "b", "endpoint2": "a", "delay": "3ms"}
    epoch = {"time": "2024-06-01T12:00:30Z", "run": {"a": ["ls"]}, "links-update": [change]}
    middle = ("e1.json", json.dumps(epoch))
    with pytest.raises(DataFileError, match="never end") as refused:
        parse_netsatbench([epochs(link)[0], middle], "x")
    assert "--until-s" in refused.value.hint
    found = parse_netsatbench([epochs(link)[0], middle], "x", until_s=50.0)
    assert [(c.start_s, c.end_s, c.rate_bit_s, c.delay_s, c.loss) for c in found.plan.contacts if c.source == "a"] == [
        (0.0, 30.0, 1e6, 0.002, 0.01), (30.0, 50.0, 1e6, 0.003, 0.01)]  # fmt: skip
    assert any("neither kept nor run" in warning for warning in found.warnings)


@pytest.mark.parametrize("name", ["#1", "a\nb", " a"])
def test_names_that_the_plans_file_would_lose_are_refused(name: str) -> None:
    link = {"endpoint1": name, "endpoint2": "z", "rate": "1mbit", "loss": 1, "delay": "2ms"}
    with pytest.raises(DataFileError, match="a name that a plan's file cannot hold"):
        parse_netsatbench(epochs(link), "x")


def test_csv_units_stand_in_the_header() -> None:
    text = "source,target,start_ms,end_s,rate_mbit_s,delay_us,loss_percent\na,b,500,2,1.5,250,2\n"
    (contact,) = read_csv(text, "x").plan.contacts
    assert contact == Contact(0.5, 2.0, "a", "b", 1.5e6, 250e-6, 0.02)
    with pytest.raises(DataFileError, match="x:1: unknown column 'rate'") as refused:
        read_csv(text.replace("rate_mbit_s", "rate"), "x")
    assert "rate_bit_s" in refused.value.hint


HEADER = "source,target,start_s,end_s,rate_bit_s,delay_s\n"
CASES = {
    "overlap": (HEADER + "a,b,0,10,1,0\na,b,5,20,1,0\n", ["x:3", "overlaps that of line 2", "5..20"]),
    "hidden overlap": (HEADER + "a,b,0,100,1,0\na,b,5,20,1,0\na,b,30,40,1,0\n", ["x:3", "x:4", "line 2"]),
    "negative rate": (HEADER + "a,b,0,10,-1,0\n", ["x:2", "rate is -1 bit/s, wanted 0 or more"]),
    "negative delay": (HEADER + "a,b,0,10,1,-2\n", ["x:2", "delay is -2 s"]),
    "backwards": (HEADER + "a,b,10,10,1,0\n", ["x:2", "ends at 10 s, not after its start"]),
    "itself": (HEADER + "a,a,0,10,1,0\n", ["x:2", "contact with itself"]),
    "word": (HEADER + "a,b,0,ten,1,0\n", ["x:2", "the end is not a number; found 'ten'"]),
    "not a number": (HEADER + "a,b,0,nan,1,0\n", ["x:2", "the end is not a number"]),
    "cut line": (HEADER + "a,b,0,10\n", ["x:2", "4 values under 6 columns"]),
    "no header": ("# nothing\n", ["x: no line names the columns"]),
    "no delay": ("source,target,start_s,end_s,rate_bit_s\n", ["x:1", "no column for the delay"]),
    "epoch": ("# epoch_utc: yesterday\n" + HEADER, ["x: epoch_utc: 'yesterday'"]),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_by_line(name: str) -> None:
    text, words = CASES[name]
    with pytest.raises(DataFileError) as refused:
        read_csv(text, "x")
    for word in words:
        assert word in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a contact +0 +60 1 2\n", "needs 5 to 6 values"),
        ("a contact +0 +60 one 2 8\n", "a node is a number"),
        ("a contact 60 +60 1 2 8\n", "a time is"),
        ("a contact 2024/13/01-00:00:00 +60 1 2 8\n", "a time is"),
        ("a range +0 +60 1 2 0.5\n", "whole light-seconds"),
        ("^ 2\n", "regions"),
        ("frobnicate\n", "unknown or unsupported"),
        ("a range +0 +60 1 2 3\na range +30 +90 1 2 4\na contact +0 +60 1 2 8\n", "two ranges"),
    ],
)
def test_ion_refusals(text: str, words: str) -> None:
    with pytest.raises(DataFileError, match=words) as refused:
        read_ion(text, "x")
    assert refused.value.message.startswith("x:")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (hdtn(source="one"), "x:1: source is a node's number"),
        (hdtn(owlt=True), "x:1: owlt is not a number"),
        (hdtn(endTime=None), "endTime is not a number; it is missing"),
        (hdtn(rateBitsPerSec=0), "x:1: a rate of 0 is no limit to HDTN"),
        (hdtn(speed=3), "unknown key 'speed'"),
        ('{"contacts": [{"source": 1, "source": 2}]}', "stands twice"),
        ('{"contacts": [\n{"owlt": NaN}]}', "NaN is no JSON number"),
        ('{"contacts": [\n{"owlt": 1,}]}', "x:2: column"),
        ("[" * 100_000, "nested too deep"),
        ("[]", "no object with a list"),
    ],
)
def test_hdtn_refusals(text: str, words: str) -> None:
    with pytest.raises(DataFileError, match=words):
        read_hdtn(text, "x")


def test_line_numbers_in_json_are_those_of_the_object() -> None:
    with pytest.raises(DataFileError, match="x:4: owlt"):
        read_hdtn(
            '{\n"contacts": [\n\n{"source": 1, "dest": 2, "startTime": 0, "endTime": 1,\n"rateBitsPerSec": 5}]}', "x"
        )


def test_exports_refuse_what_they_cannot_say() -> None:
    def plan(**changes: Any) -> Any:
        values = {"start_s": 0.0, "end_s": 60.0, "source": "1", "target": "2", "rate_bit_s": 8e6, "delay_s": 0.02}
        return build_plan([Contact(**{**values, **changes})], "x").plan

    for write in (write_ion, write_hdtn):
        with pytest.raises(DataFileError, match=r"delay in .* is 0.02") as refused:
            write(plan())
        assert "--round" in refused.value.hint
        with pytest.raises(DataFileError, match="numbers its nodes; found 'SAT'"):
            write(plan(source="SAT"))
        with pytest.raises(DataFileError, match="loss"):
            write(plan(loss=0.1))
    with pytest.raises(DataFileError, match="HDTN takes its rate of 0 for no limit"):
        write_hdtn(plan(rate_bit_s=0.0, delay_s=1.0))
    with pytest.raises(DataFileError, match="ION wants a rate above 0"):
        write_ion(plan(rate_bit_s=7.0, delay_s=1.0), rounded=True)
    twice = [Contact(0.0, 60.0, "1", "2", 8e3, 1.0), Contact(30.0, 90.0, "1", "2", 8e3, 2.0)]
    with pytest.raises(DataFileError, match="1 -> 2 overlap at 30 s"):
        write_ion(build_plan(twice, "x", lenient=True).plan)
    inward = read_hdtn(write_hdtn(plan(start_s=0.4, end_s=59.6), rounded=True), "x").plan.contacts[0]
    assert (inward.start_s, inward.end_s, inward.delay_s) == (1.0, 59.0, 1.0)
    with pytest.raises(DataFileError, match="has no epoch"):
        write_netsatbench(plan())
    with pytest.raises(DataFileError, match="differ"):
        write_netsatbench(plan(), "2024-10-21T08:20:00Z")
