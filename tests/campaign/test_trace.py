"""Requests of a trace on local nodes: none early, each of its length, and the run ends when all are answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ground_controller.client_events import RequestBegan, RequestEnded
from ground_controller.journal import Journal

if TYPE_CHECKING:
    from tests.campaign.conftest import Starter


def test_a_trace_is_replayed(starter: Starter, tmp_path: Path, journal: Callable[[Path], Journal]) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("at_s,prompt_tokens,output_tokens\n0.2,8,3\n0.9,40,2\n1.3,,\n")
    finished = starter.start(
        workload__arrivals="trace", workload__trace=str(trace), workload__batch=2, orbit__duration_s=300,
    ).wait()  # fmt: skip
    assert finished.code == 0, finished.errors
    assert finished.metrics["scenario_s"] < 300
    record = journal(finished.folder)
    begun = [(e.host_ns, msgspec.json.decode(e.body, type=RequestBegan)) for e in record.entries("request_begin")]
    ended = [msgspec.json.decode(e.body, type=RequestEnded) for e in record.entries("request_end")]
    assert [len(one.prompt_tokens) for _, one in begun[:4]] == [8, 8, 40, 40]
    assert {one.request: len(one.tokens) for one in ended[:4]} == {1: 3, 2: 3, 3: 2, 4: 2}
    assert len(begun) == len(ended) == 6
    anchor_ns = int(record.meta("anchor_host_ns"))
    for (host_ns, _), at_s in zip(begun, (0.2, 0.2, 0.9, 0.9, 1.3, 1.3), strict=True):
        assert host_ns >= anchor_ns + at_s * 1e9
    assert finished.replay()["mismatches"] == 0
