"""What the schedule asked of each hop of a token, beside what its frames took."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from ground_controller.fleet.orders import link_acceleration
from ground_controller.journal import Journal
from ground_controller.steering import Steered
from ground_controller.telemetry.scenario_time import ScenarioTime
from hil_config.errors import HilError
from hil_config.schema.campaign import Campaign
from hil_config.wire.link_fault import faulted
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.messages import TokenEvidence
from hil_config.wire.plan import SelectionPlan
from hil_config.wire.schedule_file import decode_schedule


class Step(NamedTuple):
    """What a gateway recorded of a token, in which boot of its board."""

    node: str
    boot_id: str
    body: TokenEvidence


class Hop(msgspec.Struct, frozen=True):
    """Frames between two nodes, in microseconds. `scheduled_us`: delay alone (modelled), both ways where an answer came
    back; null where the direct link was down or no schedule is there. `achieved_us`: with the frame's time at the
    link's rate and the receiver's wake-up; null where the record does not tell it. `over`: nodes in between."""

    source: str
    target: str
    both_ways: bool
    scheduled_us: float | None
    achieved_us: float | None
    over: tuple[str, ...] = ()
    note: str = ""


class ScheduledDelays:
    """Delays that nodes were to live through: the factual schedule, scaled by the campaign, under injected faults."""

    def __init__(self, journal: Journal, folder: Path) -> None:
        campaign = Campaign.model_validate_json(journal.meta("campaign"))
        bench = msgspec.json.decode(journal.meta("bench"))
        names = [board["name"] for board in bench["boards"]]
        self._satellites = dict(zip(names, campaign.orbit.satellites, strict=True))
        self._scale = campaign.orbit.delay_scale / link_acceleration(campaign)
        self._schedule = _schedule(folder)
        self._when = ScenarioTime(journal)
        steered = [msgspec.json.decode(entry.body, type=Steered) for entry in journal.entries("steer")]
        self._faults = [(one.at_s, one.fault) for one in steered if one.fault is not None]
        self.uncertain_us = {
            node: value[1] / 1e3
            for node, value in msgspec.json.decode(
                journal.meta("clock_offsets_ns"), type=dict[str, tuple[int, int]]
            ).items()
        }  # fmt: skip

    def ended_us(self, step: Step) -> float:
        """On the ground's clock."""
        return self._when.host_ns(step.node, step.body.mono_ns, step.boot_id) / 1e3

    def one_way_us(self, way: Iterable[str], step: Step) -> float | None:
        """Along `way` at the end of `step`; None if a link of it was down or nothing is known."""
        if self._schedule is None:
            return None
        at_s = self._when.of(step.node, step.body.mono_ns, step.boot_id)
        active = [fault for since_s, fault in self._faults if since_s <= at_s]
        total_us = 0.0
        for source, target in pairwise(way):
            a, b = self._satellites[source], self._satellites[target]
            link = faulted(self._schedule.link(a, b, at_s), a, b, at_s, active)
            if not link.up:
                return None
            total_us += link.delay_s * self._scale * 1e6
        return total_us


def _schedule(folder: Path) -> LinkSchedule | None:
    path = folder / "schedule.hsched"
    try:
        return decode_schedule(path.read_bytes(), str(path))
    except (OSError, HilError):
        return None


def way(plan: SelectionPlan, source: str, target: str) -> tuple[str, ...]:
    """The nodes that frames went over by the plan, both ends included."""
    for nodes in plan.routes:
        names = tuple(plan.nodes[n] for n in nodes)
        if (names[0], names[-1]) == (source, target):
            return names
    return (source, target)


def call_hops(
    delays: ScheduledDelays, step: Step, plan: SelectionPlan, hosts: Iterable[str], link_us: float
) -> tuple[Hop, ...]:
    """From a gateway to each host of a layer's picks, and back."""
    gateway, found = step.node, []
    remote = sorted(set(hosts) - {gateway})
    for host in remote:
        there, back = way(plan, gateway, host), way(plan, host, gateway)
        parts = [delays.one_way_us(one, step) for one in (there, back)]
        told = None if None in parts else sum(part for part in parts if part is not None)
        hedged = told is not None and 0.0 < link_us < told
        alone = len(remote) == 1 and link_us > 0.0 and not hedged
        notes = ["the direct link was down"] if told is None and len(there) == 2 else []
        if not alone:
            notes.append(
                "another host answered for it: the layer's link time is shorter than this link" if hedged
                else "the layer's link time is that of the host that answered last" if link_us > 0.0
                else "no answer over a link was the layer's last"
            )  # fmt: skip
        found.append(Hop(gateway, host, True, told, link_us if alone else None, there[1:-1], "; ".join(notes)))
    return tuple(found)


def hand_overs(delays: ScheduledDelays, steps: list[Step], plan: SelectionPlan) -> tuple[Hop, ...]:
    """From gateway to gateway: from the end of one's record to the begin of the next one's, over two nodes' clocks."""
    found = []
    for before, after in pairwise(steps):
        source, target = before.node, after.node
        if source == target:
            continue
        nodes = way(plan, source, target)
        took_us = delays.ended_us(after) - after.body.total_us - delays.ended_us(before)
        told = delays.one_way_us(nodes, before)
        doubt_us = delays.uncertain_us.get(source, 0.0) + delays.uncertain_us.get(target, 0.0)
        found.append(Hop(source, target, False, told, took_us, nodes[1:-1], f"clocks uncertain by {doubt_us:.0f} us"))
    return tuple(found)
