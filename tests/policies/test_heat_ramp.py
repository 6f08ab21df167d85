"""The ramp of `python -m benchmarks heat_ramp`: precision falls before the limit is reached, and that holds it."""

from __future__ import annotations

from benchmarks.heat_ramp import LIMITS, ramp


def test_precision_and_experts_fall_as_the_twin_warms_and_temperature_holds() -> None:
    rigid = ramp("fixed", "topk")
    yielding = ramp("by_importance_and_heat", "lyapunov")
    assert max(p.temperature_c for p in rigid) > LIMITS.temperature_soft_c + 5.0
    assert max(p.temperature_c for p in yielding) < LIMITS.temperature_soft_c
    coarse = [p.coarse for p in yielding]
    assert coarse == sorted(coarse) or max(abs(a - b) for a, b in zip(coarse, sorted(coarse), strict=True)) < 0.03
    assert coarse[0] < 0.6 and coarse[-1] > 0.95
    assert yielding[-1].experts < yielding[0].experts
    assert 0.0 < yielding[-1].nats < 0.05 and yielding[-1].mass > 0.99
    assert all(p.nats == 0.0 and p.mass > 0.9999 for p in rigid)
