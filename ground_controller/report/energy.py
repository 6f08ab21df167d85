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
from ground_controller.telemetry.sources import quantities
from ground_controller.telemetry.tables import ScenarioTime
from hil_config.energy import integrate
from hil_config.schema.profiles import load_profile
from hil_config.wire.messages import Record, SampleBatch, decode


class NodeEnergy(NamedTuple):
    """Joules in host time over the replayed orbit; None when the samples do not allow a figure (see `note`)."""

    gross_j: float | None
    net_j: float | None
    samples: int
    note: str


def node_energy(journal: Journal) -> dict[str, NodeEnergy]:
    """Energy between scenario second 0 and the last one, per node with power samples."""
    power = quantities(journal).get("power_w")
    if not power:
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
    return {node: _integrate(values, power[node].hz, idle[node]) for node, values in series.items() if node in power}


def _integrate(values: list[tuple[int, float]], hz: float, idle_w: float) -> NodeEnergy:
    """From the first sample to the last; the rules are those of `hil_config.energy`."""
    ordered = sorted(values)
    mono_ns = np.array([t for t, _ in ordered], np.int64)
    found = integrate(mono_ns, np.array([w for _, w in ordered]), ordered[0][0], ordered[-1][0], hz)
    if found.joules is None:
        return NodeEnergy(None, None, len(values), found.reason)
    net_j = found.joules - idle_w * found.seconds
    note = f"{len(values)} samples over {found.seconds:.1f} s, sampling uncertainty {found.uncertainty_j:.2g} J"
    return NodeEnergy(round(found.joules, 4), round(net_j, 4), len(values), note)
