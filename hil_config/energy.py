"""Energy from power samples: exact about what the samples can tell, and silent about the rest. Pure; nodes and ground.

E = sum of 0.5 (P_i + P_i+1) (t_i+1 - t_i) on the monotonic clock of the host that sampled, with the power at the
window's edges interpolated between the samples around them. A gap longer than `GAP_PERIODS` sample periods, an edge
without a sample on either side or fewer than `LEAST_PERIODS` periods make a window void, with the reason: nothing is
bridged in silence (after the rules of MLPerf Power, and arXiv 2206.10377 on sampling rates).

Uncertainty (one standard deviation unless said otherwise) has two parts. Sampling: between samples the power is
unknown; if what it does there is independent of the sampling, the error of the sum is dt sqrt(N) s, with s estimated
from successive differences, s^2 = sum (P_i+1 - P_i)^2 / (2 N) (von Neumann et al. 1941): nothing for a smooth load,
the whole spread for one that is aliased. Instrument: `gain` times the energy, as the data sheet states it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GAP_PERIODS = 3.0
LEAST_PERIODS = 30
LEAST_IDLE_S = 30.0
IDLE_DRIFT = 0.1
"""Idle power before and after may differ by this share of their mean, else there is no baseline."""


class Energy(NamedTuple):
    """Joules and their standard uncertainty over `seconds`, or None with a reason."""

    joules: float | None
    uncertainty_j: float
    seconds: float
    samples: int
    reason: str = ""


class Idle(NamedTuple):
    """Power of the idle board in W with its standard uncertainty, or None with a reason."""

    watts: float | None
    uncertainty_w: float
    reason: str = ""


def integrate(
    mono_ns: NDArray[np.int64], watts: NDArray[np.float64], begin_ns: int, end_ns: int, hz: float, gain: float = 0.0
) -> Energy:
    """Gross energy of the window [begin_ns, end_ns].

    Args:
        mono_ns: int64 [samples], strictly rising; the window must lie inside them.
        watts: float64 [samples]; NaN where a reading is absent, which is a gap.
        hz: nominal sampling rate.
        gain: relative standard uncertainty of the instrument.
    """
    seconds = (end_ns - begin_ns) / 1e9
    keep = np.isfinite(watts)
    at_s, power = (mono_ns[keep] - begin_ns) / 1e9, watts[keep]

    def void(reason: str) -> Energy:
        return Energy(None, 0.0, seconds, int(keep.sum()), reason)

    if seconds * hz < LEAST_PERIODS:
        return void(f"{seconds:g} s hold {seconds * hz:.1f} sample periods; at least {LEAST_PERIODS} are needed")
    if len(at_s) < 2 or at_s[0] > 0.0 or at_s[-1] < seconds:
        return void("the samples do not reach over both edges of the window")
    if np.any(np.diff(at_s) <= 0.0):
        return void("the samples are not in the order of their clock")
    first, last = int(np.searchsorted(at_s, 0.0, "right")) - 1, int(np.searchsorted(at_s, seconds, "left"))
    widest = float(np.diff(at_s[first : last + 1]).max())
    if widest > GAP_PERIODS / hz:
        return void(f"a gap of {widest:.3f} s between samples; at most {GAP_PERIODS / hz:.3f} s are allowed")
    inside = slice(first + 1, last)
    edges = np.interp([0.0, seconds], at_s, power)
    t = np.concatenate([[0.0], at_s[inside], [seconds]])
    p = np.concatenate([edges[:1], power[inside], edges[1:]])
    joules = float(np.sum(0.5 * (p[1:] + p[:-1]) * np.diff(t)))
    count = last - first
    spread = float(np.sqrt(np.mean(np.diff(power[first : last + 1]) ** 2) / 2.0))
    sampling = seconds / count * np.sqrt(count) * spread
    return Energy(joules, float(np.hypot(sampling, gain * joules)), seconds, count)


def idle_power(before: Energy, after: Energy) -> Idle:
    """The baseline from idle windows on both sides of the work, each at least `LEAST_IDLE_S` long."""
    for name, side in (("before", before), ("after", after)):
        if side.joules is None:
            return Idle(None, 0.0, f"idle {name} the work: {side.reason}")
        if side.seconds < LEAST_IDLE_S:
            return Idle(None, 0.0, f"idle {name} the work: {side.seconds:g} s; at least {LEAST_IDLE_S:g} s are needed")
    assert before.joules is not None
    assert after.joules is not None
    a, b = before.joules / before.seconds, after.joules / after.seconds
    mean = (a + b) / 2.0
    if abs(a - b) > IDLE_DRIFT * mean:
        return Idle(None, 0.0, f"idle power was {a:.3f} W before and {b:.3f} W after the work: there is no baseline")
    own = np.hypot(before.uncertainty_j / before.seconds, after.uncertainty_j / after.seconds) / 2.0
    # A drift from a to b, at a moment nobody knows: uniform between them (GUM 4.3.7).
    return Idle(mean, float(np.hypot(own, abs(a - b) / np.sqrt(12.0))))


def above_idle(gross: Energy, idle: Idle) -> Energy:
    """Net energy: what the work took on top of the idle board."""
    if gross.joules is None or idle.watts is None:
        return gross._replace(joules=None, uncertainty_j=0.0, reason=gross.reason or idle.reason)
    net = gross.joules - idle.watts * gross.seconds
    return gross._replace(
        joules=net, uncertainty_j=float(np.hypot(gross.uncertainty_j, idle.uncertainty_w * gross.seconds))
    )


def per_item(energy: Energy, items: int) -> Energy:
    """Energy of one of `items` equal parts of a window (tokens, expert calls).

    A part is only given a figure as a mean over a window that is long enough itself; where the window is void or
    holds no item, the answer is the reason.
    """
    if energy.joules is None:
        return energy
    if items < 1:
        return energy._replace(joules=None, uncertainty_j=0.0, reason="the window holds no item to divide by")
    return energy._replace(joules=energy.joules / items, uncertainty_j=energy.uncertainty_j / items)


def skew_error(step_w: float, skew_s: float) -> float:
    """The most joules that a clock skew can move into or out of a window whose load steps by `step_w` at both edges."""
    return 2.0 * abs(step_w) * abs(skew_s)
