"""A run that takes idle windows: recorded, read back on the nodes' clocks, and used for net energy; replay agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ground_controller.idle import IdleWindow, idle_windows, measured_idle
from ground_controller.journal import Journal
from ground_controller.report.energy import node_energy

if TYPE_CHECKING:
    from tests.campaign.conftest import Starter


def test_windows_on_both_sides(starter: Starter, journal: Callable[[Path], Journal]) -> None:
    """Windows of 5 s are too short for a baseline: the record has them, and the report refuses to subtract."""
    running = starter.start(orbit__duration_s=60, control__idle_s=5)
    finished = running.wait()
    record = journal(running.folder)
    before, after = idle_windows(record)
    assert (before.side, after.side) == ("before", "after")
    assert before.end_ns - before.begin_ns == after.end_ns - after.begin_ns == 5_000_000_000
    assert before.end_ns < int(record.meta("anchor_host_ns")) < after.begin_ns
    energy = node_energy(record)
    assert len(energy) == 4
    for found in energy.values():
        assert found.net_j is None
        if found.gross_j is not None:  # else a busy machine left a gap in the samples, and the note says so
            assert "idle before the work: 5 s; at least 30 s are needed" in found.note
    assert finished.replay()["mismatches"] == 0


def test_baseline_of_a_known_board() -> None:
    """2 W idle on both sides and 5 W between, on a clock 1,000 s ahead: the baseline is 2 W."""
    at_s = np.arange(0.0, 200.0, 0.1)
    watts = np.where((at_s > 50.0) & (at_s < 150.0), 5.0, 2.0)
    windows = [
        IdleWindow("before", 10_000_000_000, 45_000_000_000),
        IdleWindow("after", 155_000_000_000, 190_000_000_000),
    ]
    clock_ns = ((at_s + 1_000.0) * 1e9).astype(np.int64)
    found = measured_idle(windows, 1_000_000_000_000, clock_ns, watts, 10.0)
    assert found is not None
    assert found.watts == 2.0
    assert measured_idle([], 0, clock_ns, watts, 10.0) is None
    half = measured_idle(windows[:1], 1_000_000_000_000, clock_ns, watts, 10.0)
    assert half is not None
    assert half.watts is None
    assert "second idle window" in half.reason
