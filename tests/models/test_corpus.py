"""The synthetic telemetry is seeded, varied and consistent; the split is by document."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from models.reference.corpus import HELDOUT_ONE_IN, is_heldout
from models.reference.telemetry_text import STATIONS, passes


def test_a_seed_fixes_the_text_and_seeds_differ() -> None:
    first, same, other = (list(islice(passes(seed), 20)) for seed in (1, 1, 2))
    assert first == same
    assert not set(first) & set(other)


def test_a_pass_is_consistent_with_itself() -> None:
    for text in islice(passes(3), 200):
        lines = text.splitlines()
        header = re.fullmatch(
            r"PASS (\d+) ([A-Z]+-\d) over (\w+), AOS (\d\d:\d\d:\d\d), maximum elevation \d+ deg", lines[0]
        )
        assert header is not None
        number, craft, station, _ = header.groups()
        assert station in STATIONS
        assert lines[-1].startswith(f"END {number} {craft} LOS ")
        for line in lines[1:-1]:
            assert re.match(rf"\d\d:\d\d:\d\d {craft} (EPS|THM|ADC|COM|PAY|ISL|EVT|OPS) ", line)


def test_values_stay_in_their_physical_range() -> None:
    for text in islice(passes(4), 200):
        for charge in re.findall(r"charge (\d+) %", text):
            assert 18 <= int(charge) <= 100
        for array, sun in re.findall(r"array ([\d.]+) W charge \d+ % (sunlit|eclipse)", text):
            assert (float(array) > 0) == (sun == "sunlit")
        for board in re.findall(r"board (-?[\d.]+) C", text):
            assert 10 < float(board) < 80


def test_the_split_depends_on_the_text_alone_and_keeps_its_share() -> None:
    documents = list(islice(passes(5), 1600))
    chosen = [is_heldout(text) for text in documents]
    assert chosen == [is_heldout(text) for text in documents]
    assert sum(chosen) == pytest.approx(len(documents) / HELDOUT_ONE_IN, rel=0.35)
