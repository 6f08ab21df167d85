"""Energy of each node from its power samples: trapezoids on the node's own monotonic clock.

A gap of more than three sample periods makes the node's figure void: it is never bridged in silence. Net is
gross minus the idle power of the board's profile over the same time; a measured idle baseline replaces that
where a campaign takes one.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from ground_controller.journal import Journal
from ground_controller.telemetry.tables import ScenarioTime, quantities
from hil_config.schema.profiles import load_profile
from hil_config.wire.messages import Record, SampleBatch, decode

GAP_PERIODS = 3.0
LEAST_SAMPLES = 30


class NodeEnergy(NamedTuple):
    """Joules in host time over the replayed orbit; None when the samples do not allow a figure (see `note`)."""

    gross_j: float | None
    net_j: float | None
    samples: int
    note: str


def node_energy(journal: Journal) -> dict[str, NodeEnergy]:
    """Energy between scenario second 0 and the last one, per node with power samples."""
    power = quantities(journal).get("power_w")
    if power is None:
        return {}
    when = ScenarioTime(journal)
    bench = msgspec.json.decode(journal.meta("bench"))
    campaign = msgspec.json.decode(journal.meta("campaign"))
    idle = {board["name"]: load_profile(board["profile"]).idle_w for board in bench["boards"]}
    series: dict[str, list[tuple[int, float]]] = {}
    for entry in journal.entries("samples"):
        body = decode(entry.body, Record).body
        assert isinstance(body, SampleBatch)
        for mono_ns, watts in zip(body.mono_ns, body.columns.get("power_w", ()), strict=False):
            if watts is not None and 0.0 <= when.of(entry.node, mono_ns) <= campaign["orbit"]["duration_s"]:
                series.setdefault(entry.node, []).append((mono_ns, watts))
    return {node: _integrate(values, 1.0 / power.hz, idle[node]) for node, values in series.items()}


def _integrate(values: list[tuple[int, float]], period_s: float, idle_w: float) -> NodeEnergy:
    if len(values) < LEAST_SAMPLES:
        return NodeEnergy(None, None, len(values), f"only {len(values)} samples; {LEAST_SAMPLES} are needed")
    ordered = sorted(values)
    time_s = (np.array([t for t, _ in ordered]) - ordered[0][0]) / 1e9
    watts = np.array([w for _, w in ordered])
    gaps = np.diff(time_s)
    widest = float(gaps.max())
    if widest > GAP_PERIODS * period_s:
        return NodeEnergy(
            None,
            None,
            len(values),
            f"a gap of {widest:.2f} s between samples; at most {GAP_PERIODS * period_s:.2f} s",
        )
    gross = float(np.trapezoid(watts, time_s))
    net = gross - idle_w * float(time_s[-1])
    return NodeEnergy(round(gross, 4), round(net, 4), len(values), f"{len(values)} samples over {time_s[-1]:.1f} s")
