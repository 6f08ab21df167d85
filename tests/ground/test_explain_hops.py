"""Hops of a token between two boards, read by the clocks of the boots that recorded them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from ground_controller.explain_hops import ScheduledDelays, Step, hand_overs
from ground_controller.interruption import KIND, RunResumed
from ground_controller.journal import Entry, Journal
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire.messages import Status, TokenEvidence, encode
from hil_config.wire.plan import SelectionPlan

SECOND = 1_000_000_000


def _step(node: str, boot_id: str, mono_ns: int, total_us: float) -> Step:
    return Step(node, boot_id, TokenEvidence(1, 1, 0, 1, 3, False, mono_ns, total_us, 0.0, -1, 1.0, (), ()))


def test_a_hand_over_to_a_board_that_was_rebooted_in_an_interruption(tmp_path: Path) -> None:
    """alpha lived on, bravo came back with a clock that begins anew: 2 ms lie between the two, before and after."""
    journal = Journal.create(tmp_path)
    for key, value in (
        ("clock_offsets_ns", json.dumps({"alpha": [0, 0], "bravo": [50_000 * SECOND, 0]})),
        ("anchor_host_ns", str(100 * SECOND)),
        ("campaign", load_campaign(default_path("campaign")).model_dump_json()),
        ("bench", load_bench(default_path("bench")).model_dump_json()),
    ):
        journal.set_meta(key, value)
    offsets, boots = {"alpha": (0, 0), "bravo": (-130 * SECOND, 0)}, {"alpha": "a", "bravo": "second"}
    resumed = RunResumed(2, 100.0, 110 * SECOND, 150 * SECOND, 10.0, offsets, boots, (), (), "")
    status = encode(Status(node="bravo", boot_id="first", state="online"))
    journal.commit([
        Entry(0, 0.0, 90 * SECOND, "status", "bravo", "first", 0, status),
        Entry(0, 100.0, 150 * SECOND, KIND, "", "", 0, msgspec.json.encode(resumed)),
    ])  # fmt: skip
    delays = ScheduledDelays(journal, tmp_path)
    journal.close()
    plan = SelectionPlan(
        version=3, epoch=1, issued_s=0.0, ttl_s=5.0, policy="topk", reason="", scale=1.0, coverage=1.0, k_min=1,
        k_max=1, threshold=0.0, nodes=("alpha", "bravo"), gateways=(), layers=(),
    )  # fmt: skip
    for boot_id, host_s, offset_s in (("first", 105, 50_000), ("second", 155, -130)):
        ended_ns = host_s * SECOND
        after = _step("bravo", boot_id, ended_ns + offset_s * SECOND + 5_000_000, 3_000.0)
        (hop,) = hand_overs(delays, [_step("alpha", "a", ended_ns, 900.0), after], plan)
        assert hop.achieved_us == pytest.approx(2_000.0, abs=1.0), boot_id
