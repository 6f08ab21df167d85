"""Energy of boards whose clocks drift apart over a long run."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ground_controller.clock_keeper import ClockChecked
from ground_controller.journal import Entry, Journal
from ground_controller.report.energy import blocks_j, energy_of, node_power
from hil_config.wire import messages as m
from hil_config.wire.provenance import measured

SECOND = 1_000_000_000
RUN_S, GAIN = 9_000, 800e-6
"""Of the drifting clock: 7.2 s at the end of the run."""


def _mono_ns(host_s: float, gain: float) -> int:
    return round(host_s * SECOND * (1.0 + gain))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Two boards at 1 Hz, 3 W for two thirds of the run and 5 W after; the clock of one gains, and is checked."""
    found = Journal.create(tmp_path)
    for key, value in (
        ("clock_offsets_ns", json.dumps({"true": [0, 0], "fast": [0, 0]})), ("anchor_host_ns", "0"),
        ("campaign", json.dumps({"orbit": {"rate": 1.0, "duration_s": float(RUN_S)}})),
        ("bench", json.dumps({"boards": [{"name": name, "profile": "local-process"} for name in ("true", "fast")]})),
    ):  # fmt: skip
        found.set_meta(key, value)
    entries = []
    for node, gain in (("true", 0.0), ("fast", GAIN)):
        power = m.Quantity("power_w", "W", 1.0, measured("a meter"))
        status = m.Status(node=node, boot_id="b", state="serving", quantities=(power,))
        entries.append(Entry(0, 0.0, 0, "status", node, "b", 0, m.encode(status)))
        for seq, begin in enumerate(range(0, RUN_S, 100), start=1):
            times = [begin + i for i in range(100)] + ([RUN_S] if begin + 100 == RUN_S else [])
            watts = tuple(3.0 if at <= RUN_S * 2 // 3 else 5.0 for at in times)
            batch = m.SampleBatch(tuple(_mono_ns(at, gain) for at in times), {"power_w": watts})
            record = m.Record(node=node, boot_id="b", seq=seq, mono_ns=batch.mono_ns[-1], wall_ns=0, body=batch)
            entries.append(Entry(0, 0.0, times[-1] * SECOND, "samples", node, "b", seq, m.encode(record)))
    for at_s in range(600, RUN_S + 1, 600):
        checked = ClockChecked(_mono_ns(at_s, GAIN) - at_s * SECOND, 1000, 480_000_000, True)
        entries.append(Entry(0, 0.0, at_s * SECOND, "clock_check", "fast", "", 0, msgspec.json.encode(checked)))
    found.commit(entries)
    return found


def test_a_clock_that_drifts_leaves_no_board_silent(journal: Journal) -> None:
    """Its last sample seemed to be 7.2 s later than that of the other, which then had no figure."""
    power = node_power(journal)
    joules = 3.0 * RUN_S * 2 / 3 + 5.0 * RUN_S / 3 - 1.0
    for one in power.values():
        found = energy_of(one)
        assert found.gross_j == pytest.approx(joules, rel=1e-3), found.note
        assert found.samples == RUN_S + 1


def test_blocks_of_both_end_at_the_same_instant(journal: Journal) -> None:
    edges = np.array([0, 6_000, 9_000], np.int64) * SECOND
    for one in node_power(journal).values():
        assert blocks_j(one, edges) == pytest.approx([18_000.0, 14_999.0], abs=1.5)
