"""Did the instruments do their work: fakes, gaps between samples, refused readings, throttling?"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import msgspec
import numpy as np

from ground_controller.decision import Decision
from ground_controller.interruption import resumptions
from ground_controller.journal import WORK_ENDED, Journal
from ground_controller.loop import TickBegan
from ground_controller.telemetry.scenario_time import ScenarioTime
from ground_controller.telemetry.sources import quantities
from ground_controller.verification.check import Check, judged, listed, not_applicable
from hil_config.energy import GAP_PERIODS
from hil_config.wire.messages import NodeEvent, Record, SampleBatch, decode

POWER = "power_w"
FLAGS = "throttled_flags"
NOW, SINCE_BOOT = 0xF, 0xF0000
"""Raspberry Pi's `get_throttled`: bits 0 to 3 are of this moment, 16 to 19 say that it was so since the boot."""


def fakes(journal: Journal) -> Check:
    """No quantity of a node stands for something else."""
    found = [(node, quantity) for nodes in quantities(journal).values() for node, quantity in nodes.items()]
    kinds = Counter(quantity.provenance.kind for _, quantity in found)
    fake = [f"{node} {quantity.name}: {quantity.provenance}" for node, quantity in found
            if quantity.provenance.kind == "fake"]  # fmt: skip
    figure = ", ".join(f"{kinds[kind]} {kind}" for kind in ("measured", "modelled", "fake"))
    return judged("fakes", not fake, f"columns of nodes: {figure}", listed(fake), "run with the boards' own sensors")


def _batches(journal: Journal) -> Iterator[tuple[str, str, SampleBatch]]:
    for entry in journal.entries("samples"):
        body = decode(entry.body, Record).body
        assert isinstance(body, SampleBatch)
        yield entry.node, entry.boot_id, body


def gaps(journal: Journal) -> Check:
    """Power was read without a gap from the orbit's first second to its last, on every node while it lived."""
    power = quantities(journal).get(POWER)
    if not power:
        return not_applicable("telemetry gaps", "no node reports power_w")
    read: dict[tuple[str, str], list[int]] = {}
    for node, boot_id, batch in _batches(journal):
        values = batch.columns.get(POWER, ())
        kept = (at for at, value in zip(batch.mono_ns, values, strict=False) if value is not None)
        read.setdefault((node, boot_id), []).extend(kept)
    when = ScenarioTime(journal)
    begin_ns, end_ns = int(journal.meta("anchor_host_ns")), _last_tick_ns(journal)
    resumed = resumptions(journal)
    problems, widest = [], (0.0, "")
    lost = lost_nodes(journal)
    for node, quantity in power.items():
        mine = [
            when.all_host_ns(node, np.array(at, np.int64), boot) for (name, boot), at in read.items() if name == node
        ]
        times = np.sort(np.concatenate(mine)).tolist() if mine else []
        edges = [begin_ns, *(at for at in times if begin_ns < at < end_ns), *([] if node in lost else [end_ns])]
        period_ns = 1e9 / quantity.hz
        for before, after in itertools.pairwise(edges):
            width = (after - before) / period_ns
            where = f"{node}, {(before - begin_ns) / 1e9:.1f} s after the start"
            if any(before <= one.host_ns and after >= one.stopped_ns for one in resumed):
                continue  # nobody commanded, and agents that died with the controller took their last second along
            widest = max(widest, (width, where))
            if width > GAP_PERIODS:
                problems.append(f"{where}: {(after - before) / 1e9:.3f} s")
    figure = f"widest {widest[0]:.2f} sample periods, wanted at most {GAP_PERIODS:g}"
    figure += f"; not counted while interrupted ({len(resumed)})" if resumed else ""
    figure += f"; lost before the end: {', '.join(sorted(lost))}" if lost else ""
    return judged("telemetry gaps", not problems, figure, listed(problems) or widest[1],
                  "energy over a gap is not known: run the campaign again")  # fmt: skip


def lost_nodes(journal: Journal) -> set[str]:
    """Nodes that were gone when the run ended: nobody expects samples of them."""
    last = None
    for last in journal.entries("decision"):  # noqa: B007  # the last one is wanted
        pass
    if last is None:
        return set()
    decision = msgspec.json.decode(last.body, type=Decision)
    return {n for n, alive in zip(decision.plan.nodes, decision.column("alive").tolist(), strict=True) if not alive}


def _last_tick_ns(journal: Journal) -> int:
    """Host time of the last tick of the orbit, or before that of the last one with work to do."""
    duration_s = msgspec.json.decode(journal.meta("campaign"))["orbit"]["duration_s"]
    ends = [entry.host_ns for entry in journal.entries("tick")
            if msgspec.json.decode(entry.body, type=TickBegan).scenario_s <= duration_s]  # fmt: skip
    return min(max(ends, default=0), int(journal.meta(WORK_ENDED, str(1 << 62))))


def readings(journal: Journal) -> Check:
    """No sensor's reading was refused as out of range, jumping or stuck."""
    flagged = []
    for entry in journal.entries("event"):
        body = decode(entry.body, Record).body
        if isinstance(body, NodeEvent) and body.name == "SensorFlagged":
            what = f"{body.details.get('quantity')}: {body.details.get('reason')}"
            flagged.append(f"{entry.node} at {entry.scenario_s:.1f} s: {what}")
    return judged("readings", not flagged, f"{len(flagged)} times a sensor was not believed", listed(flagged),
                  "look at the sensor on the board: hil-agent sensors")  # fmt: skip


def throttling(journal: Journal) -> Check:
    """No board lowered its clock by itself, eased off or was cut."""
    said = []
    for entry in journal.entries("event"):
        body = decode(entry.body, Record).body
        if isinstance(body, NodeEvent) and body.name == "SafetyActed" and body.details.get("state") != "ok":
            said.append(f"{entry.node} at {entry.scenario_s:.1f} s: {body.details.get('reason')}")
    first: dict[tuple[str, str], int] = {}
    flags: dict[str, int] = {}
    count = 0
    for node, boot_id, batch in _batches(journal):
        for value in batch.columns.get(FLAGS, ()):
            if value is not None:
                before = first.setdefault((node, boot_id), int(value))
                # Sticky bits that were set before the run are not of this run.
                flags[node] = flags.get(node, 0) | int(value) & NOW | int(value) & ~before & SINCE_BOOT
                count += 1
    said += [f"{node}: flags {bits:#x}" for node, bits in flags.items() if bits]
    if not count and not said:
        return not_applicable("throttling", "no node reports throttle flags, and none eased off")
    return judged("throttling", not said, f"{count} readings of flags, {len(said)} nodes or times throttled",
                  listed(said), "better cooling or supply, then run the campaign again")  # fmt: skip
