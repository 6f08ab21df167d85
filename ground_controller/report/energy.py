"""Energy of each node from its power samples: trapezoids on the node's own monotonic clock.

A gap of more than three sample periods makes the node's figure void: it is never bridged in silence. Net is
gross minus idle power over the same time: measured in the run's own idle windows where the campaign takes them
(`control.idle_s`), else that of the board's profile. `idle_from` and `note` say which.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.idle import idle_windows, measured_idle
from ground_controller.journal import Journal
from ground_controller.telemetry.sources import quantities
from ground_controller.telemetry.tables import ScenarioTime
from hil_config.energy import Idle, above_idle, integrate
from hil_config.schema.profiles import BoardProfile, load_profile
from hil_config.wire.messages import Record, SampleBatch, decode

METHOD = (
    "trapezoids between power samples on each node's own monotonic clock, over the replayed orbit; a gap of more than"
    " three sample periods voids a node's figure"
)


class NodePower(NamedTuple):
    """Power samples of a node over the replayed orbit: int64 [samples] ns on its monotonic clock, float64 [samples] W.

    `offset_ns`: the node's clock minus the ground's. `idle`: from idle windows, None where the run took none.
    """

    clock_ns: NDArray[np.int64]
    watts: NDArray[np.float64]
    hz: float
    offset_ns: int
    idle: Idle | None
    profile: BoardProfile


class NodeEnergy(NamedTuple):
    """Joules in host time over the replayed orbit; None when the samples do not allow a figure (see `note`).

    `uncertainty_j`: standard, of `gross_j`, from sampling. `idle_w`: what was subtracted for `net_j`.
    """

    gross_j: float | None
    net_j: float | None
    samples: int
    note: str
    uncertainty_j: float = 0.0
    idle_w: float | None = None
    idle_from: Literal["idle windows", "profile", ""] = ""


def node_power(journal: Journal) -> dict[str, NodePower]:
    """Samples between scenario second 0 and the last one, per node with power samples."""
    power = quantities(journal).get("power_w")
    if not power:
        return {}
    when = ScenarioTime(journal)
    bench = msgspec.json.decode(journal.meta("bench"))
    campaign = msgspec.json.decode(journal.meta("campaign"))
    profiles = {board["name"]: board["profile"] for board in bench["boards"]}
    windows = idle_windows(journal)
    offsets = msgspec.json.decode(journal.meta("clock_offsets_ns"), type=dict[str, tuple[int, int]])
    series: dict[str, list[tuple[int, float]]] = {}
    for entry in journal.entries("samples"):
        body = decode(entry.body, Record).body
        assert isinstance(body, SampleBatch)
        for mono_ns, watts in zip(body.mono_ns, body.columns.get("power_w", ()), strict=False):
            if watts is not None:
                series.setdefault(entry.node, []).append((mono_ns, watts))
    found = {}
    for node, values in series.items():
        if node not in power:
            continue
        offset_ns, ordered = offsets[node][0], sorted(values)
        clock_ns, drawn = np.array([t for t, _ in ordered], np.int64), np.array([w for _, w in ordered])
        idle = measured_idle(windows, offset_ns, clock_ns, drawn, power[node].hz)
        until_ns = min((w.begin_ns + offset_ns for w in windows if w.side == "after"), default=int(clock_ns[-1]))
        scenario_s = np.array([when.of(node, t) for t, _ in ordered])
        keep = (scenario_s >= 0.0) & (scenario_s <= campaign["orbit"]["duration_s"]) & (clock_ns <= until_ns)
        if keep.any():
            found[node] = NodePower(
                clock_ns[keep], drawn[keep], power[node].hz, offset_ns, idle, load_profile(profiles[node])
            )
    return found


def node_energy(journal: Journal) -> dict[str, NodeEnergy]:
    """Energy between scenario second 0 and the last one, per node with power samples."""
    return {node: energy_of(one) for node, one in node_power(journal).items()}


def energy_of(one: NodePower) -> NodeEnergy:
    """From the first sample to the last; the rules are those of `hil_config.energy`."""
    clock_ns, watts = one.clock_ns, one.watts
    gross = integrate(clock_ns, watts, int(clock_ns[0]), int(clock_ns[-1]), one.hz)
    if gross.joules is None:
        return NodeEnergy(None, None, len(watts), gross.reason)
    note = f"{len(watts)} samples over {gross.seconds:.1f} s, sampling uncertainty {gross.uncertainty_j:.2g} J; net: "
    if one.idle is None:
        idle_w: float | None = one.profile.idle_w
        net_j: float | None = gross.joules - one.profile.idle_w * gross.seconds
        note += f"above the {one.profile.idle_w:g} W of profile {one.profile.name}, not measured in this run"
    else:
        net, idle_w = above_idle(gross, one.idle), one.idle.watts
        net_j = net.joules
        note += (
            net.reason
            if net_j is None or idle_w is None
            else f"above {idle_w:.3f} +- {one.idle.uncertainty_w:.2g} W, from the run's idle windows"
        )
    return NodeEnergy(
        round(gross.joules, 4), None if net_j is None else round(net_j, 4), len(watts), note, gross.uncertainty_j,
        idle_w, "profile" if one.idle is None else "idle windows",
    )  # fmt: skip


def blocks_j(one: NodePower, edges_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Gross joules [blocks] between instants [blocks + 1] of the ground's monotonic clock.

    The sum of trapezoids is taken as linear between samples; before the first and after the last nothing is counted.
    """
    clock_s = (one.clock_ns - one.clock_ns[0]) / 1e9
    steps = 0.5 * (one.watts[1:] + one.watts[:-1]) * np.diff(clock_s)
    at_s = (edges_ns + one.offset_ns - one.clock_ns[0]) / 1e9
    found: NDArray[np.float64] = np.diff(np.interp(at_s, clock_s, np.concatenate([[0.0], np.cumsum(steps)])))
    return found
