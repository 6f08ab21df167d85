"""The ramp of `python -m benchmarks heat_ramp`: precision and experts a row fall, and that holds the temperature.

What it costs is read off the reference model itself, on held-out text under the plans of the ramp.
"""

from __future__ import annotations

import pytest

from benchmarks.heat_ramp import LIMITS, WAYS, ramp


def test_coarser_experts_alone_do_not_hold_it() -> None:
    for precision, selection, options in WAYS[:3]:
        last = ramp(precision, selection, 720, options)[-1]
        assert last.temperature_c > LIMITS.temperature_soft_c
        assert last.experts > 1.9


def test_precision_and_experts_fall_and_temperature_holds() -> None:
    precision, selection, options = WAYS[3]
    points = ramp(precision, selection, 180, options)
    assert max(p.temperature_c for p in points) < LIMITS.temperature_soft_c
    coarse = [p.coarse for p in points]
    assert coarse == sorted(coarse)
    assert coarse[0] < 0.6
    assert coarse[-1] > 0.95
    experts = [p.experts for p in points]
    assert experts == sorted(experts, reverse=True)
    assert experts[0] == pytest.approx(2.0, abs=0.01)
    assert experts[-1] < 1.5
    assert points[-1].read_experts < points[0].read_experts - 0.5
    assert abs(points[0].nats) < 0.02
    assert 0.03 < points[-1].nats < 0.3
    assert points[-1].perplexity > points[0].perplexity
