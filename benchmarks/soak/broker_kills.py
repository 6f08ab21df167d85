"""Broker kills: 40 agents at 10 Hz for ten minutes, the broker killed 20 times; nothing lost, nothing counted twice."""

from __future__ import annotations

from benchmarks.telemetry import describe, load


def run() -> None:
    """Raises AssertionError if a record is lost or counted twice."""
    outcome = load(40, 10.0, 6000, 2, kills=20)
    print(describe(outcome), flush=True)
    assert outcome.kills == 20
    assert outcome.missing == 0
