"""Energy of each node from its power samples: trapezoids on the node's own monotonic clock, less its measured drift.

A gap of more than three sample periods makes the node's figure void: it is never bridged in silence. Nor is it known
what a board drew after its agent had died, while others were measured on (of a model node it is). While a run was
interrupted nothing is counted: the pieces before and after are integrated each for itself, and the note says so. Net is
gross minus idle power over the same time: measured in the run's own idle windows where the campaign takes them
(`control.idle_s`), else that of the board's profile. `idle_from` and `note` say which.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.idle import idle_windows, measured_idle
from ground_controller.interruption import resumptions
from ground_controller.journal import Journal
from ground_controller.telemetry.scenario_time import ScenarioTime
from ground_controller.telemetry.sources import quantities
from hil_config.energy import GAP_PERIODS, Energy, Idle, above_idle, integrate
from hil_config.schema.profiles import BoardProfile, load_profile
from hil_config.wire.messages import Record, SampleBatch, decode

BATCH_S = 1.0
"""What an agent that dies has not handed in yet."""

METHOD = (
    "trapezoids between power samples on each node's own monotonic clock, over the replayed orbit; a gap of more than"
    " three sample periods, or no samples while others have some at either end, voids a node's figure"
)


class NodePower(NamedTuple):
    """Power samples of a node over the replayed orbit: int64 [samples] ns on its monotonic clock, float64 [samples] W.

    The clock is freed of the drift that checks found, so that one `offset_ns` holds for the whole run: the node's clock
    minus the ground's. `idle`: from idle windows, None where the run took none. `pauses`: (begin, end) of interruptions
    on the node's clock, without samples. `reach_ns`: of each piece between interruptions, first and last sample of any
    node, on this one's clock; empty where nobody expects as much of it.
    """

    clock_ns: NDArray[np.int64]
    watts: NDArray[np.float64]
    hz: float
    offset_ns: int
    idle: Idle | None
    profile: BoardProfile
    pauses: tuple[tuple[int, int], ...] = ()
    reach_ns: tuple[tuple[int, int], ...] = ()


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
    windows, resumed = idle_windows(journal), resumptions(journal)
    offsets = msgspec.json.decode(journal.meta("clock_offsets_ns"), type=dict[str, tuple[int, int]])
    series: dict[str, dict[str, tuple[list[int], list[float | None]]]] = {}
    for entry in journal.entries("samples"):
        body = decode(entry.body, Record).body
        assert isinstance(body, SampleBatch)
        if "power_w" in body.columns:
            times, watts = series.setdefault(entry.node, {}).setdefault(entry.boot_id, ([], []))
            times.extend(body.mono_ns)
            watts.extend(body.columns["power_w"])
    found = {}
    for node, boots in series.items():
        if node not in power:
            continue
        offset_ns = offsets[node][0]
        drawn = np.concatenate([np.array(watts, np.float64) for _, watts in boots.values()])
        host_ns = [when.all_host_ns(node, np.array(times, np.int64), boot) for boot, (times, _) in boots.items()]
        there = np.isfinite(drawn)  # an absent reading is a gap
        if not there.any():
            continue
        clock_ns = np.concatenate(host_ns)[there] + offset_ns
        order = np.argsort(clock_ns, kind="stable")
        clock_ns, drawn = clock_ns[order], drawn[there][order]
        idle = measured_idle(windows, offset_ns, clock_ns, drawn, power[node].hz)
        until_ns = min((w.begin_ns + offset_ns for w in windows if w.side == "after"), default=int(clock_ns[-1]))
        scenario_s = when.all_at(clock_ns - offset_ns)
        keep = (scenario_s >= 0.0) & (scenario_s <= campaign["orbit"]["duration_s"]) & (clock_ns <= until_ns)
        pauses = tuple((one.stopped_ns + offset_ns, one.host_ns + offset_ns) for one in resumed)
        for begin_ns, end_ns in pauses:
            keep &= (clock_ns <= begin_ns) | (clock_ns >= end_ns)
        if keep.any():
            found[node] = NodePower(
                clock_ns[keep], drawn[keep], power[node].hz, offset_ns, idle, load_profile(profiles[node]), pauses
            )
    if not found or journal.meta("simulated", ""):
        return found
    every_ns = np.sort(np.concatenate([one.clock_ns - one.offset_ns for one in found.values()]))
    pieces = np.split(every_ns, np.searchsorted(every_ns, [one.host_ns for one in resumed]))
    reach = [(int(piece[0]), int(piece[-1])) for piece in pieces if len(piece)]
    return {
        node: one._replace(reach_ns=tuple((begin + one.offset_ns, end + one.offset_ns) for begin, end in reach))
        for node, one in found.items()
    }


def node_energy(journal: Journal) -> dict[str, NodeEnergy]:
    """Energy between scenario second 0 and the last one, per node with power samples."""
    return {node: energy_of(one) for node, one in node_power(journal).items()}


def energy_of(one: NodePower) -> NodeEnergy:
    """From the first sample to the last, without interruptions; the rules are those of `hil_config.energy`."""
    watts = one.watts
    if silent := _silent_edge(one):
        return NodeEnergy(None, None, len(watts), silent)
    pieces = _pieces(one)
    gross = _sum([integrate(t, w, int(t[0]), int(t[-1]), one.hz) for t, w in pieces])
    if gross.joules is None:
        return NodeEnergy(None, None, len(watts), gross.reason)
    note = f"{len(watts)} samples over {gross.seconds:.1f} s, sampling uncertainty {gross.uncertainty_j:.2g} J; net: "
    if one.pauses:
        note = f"without {len(one.pauses)} interruption{'s' * (len(one.pauses) > 1)}, in {len(pieces)} pieces; " + note
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


def _silent_edge(one: NodePower) -> str:
    """Where others have samples for long and this node has none, or ""."""
    for begin_ns, end_ns in one.reach_ns:
        inside = one.clock_ns[(one.clock_ns >= begin_ns) & (one.clock_ns <= end_ns)]
        first_ns, last_ns = (int(inside[0]), int(inside[-1])) if len(inside) else (end_ns, end_ns)
        for side, silent_s in (("first", (first_ns - begin_ns) / 1e9), ("last", (end_ns - last_ns) / 1e9)):
            if silent_s > BATCH_S + GAP_PERIODS / one.hz:
                what = "what was measured of others" + " between interruptions" * (len(one.reach_ns) > 1)
                return f"no sample in the {side} {silent_s:.1f} s of {what}: lost, or not there yet"
    return ""


def _pieces(one: NodePower) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Times and powers between interruptions, where there are at least two samples."""
    cuts = np.searchsorted(one.clock_ns, [end_ns for _, end_ns in one.pauses])
    found = list(zip(np.split(one.clock_ns, cuts), np.split(one.watts, cuts), strict=True))
    return [piece for piece in found if len(piece[0]) > 1] or found[:1]


def _sum(parts: list[Energy]) -> Energy:
    """Of pieces whose errors are independent; one without a figure leaves the sum without."""
    for part in parts:
        if part.joules is None:
            return part
    joules = sum(part.joules for part in parts if part.joules is not None)
    uncertainty_j = math.sqrt(sum(part.uncertainty_j**2 for part in parts))
    return Energy(joules, uncertainty_j, sum(part.seconds for part in parts), sum(part.samples for part in parts))


def blocks_j(one: NodePower, edges_ns: NDArray[np.int64], idle_w: float = 0.0) -> NDArray[np.float64]:
    """Joules above `idle_w` [blocks] between instants [blocks + 1] of the ground's monotonic clock.

    The sum of trapezoids is taken as linear between samples; before the first, after the last and in interruptions
    nothing is counted.
    """
    clock_s = (one.clock_ns - one.clock_ns[0]) / 1e9
    steps = (0.5 * (one.watts[1:] + one.watts[:-1]) - idle_w) * np.diff(clock_s)
    for _, end_ns in one.pauses:
        steps[(one.clock_ns[:-1] < end_ns) & (one.clock_ns[1:] >= end_ns)] = 0.0
    at_s = (edges_ns + one.offset_ns - one.clock_ns[0]) / 1e9
    found: NDArray[np.float64] = np.diff(np.interp(at_s, clock_s, np.concatenate([[0.0], np.cumsum(steps)])))
    return found
