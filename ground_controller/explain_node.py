"""Why a node was used as it was at an instant: duty, power setting, experts and precisions, from the record alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ground_controller.decision import Decision, NodeNumbers
from ground_controller.journal import Journal
from ground_controller.migration import MoveNumbers
from ground_controller.telemetry.power_read import NO_READING, decided_by
from ground_controller.telemetry.scenario_time import ScenarioTime
from ground_controller.telemetry.sources import quantities
from hil_config.errors import UsageError
from hil_config.wire.messages import NodeEvent, Record, decode
from hil_config.wire.orders import SetDuty

OWN_ACTS = (
    "PowerSet", "SafetyActed", "SettingsRestored", "SafeModeEntered", "ServiceSuspended", "ServiceResumed",
    "ShardsChanged", "ShardsRefused",
)  # fmt: skip
POWER_ACTS = ("PowerSet", "SettingsRestored")
MOST_ACTS = 12


class Change(msgspec.Struct, frozen=True):
    """The node's duty became `state` at this orbit second."""

    scenario_s: float
    state: str
    why: str


class Act(msgspec.Struct, frozen=True):
    """What the node itself said it did (`details` as it told them)."""

    scenario_s: float
    event: str
    details: dict[str, str | int | float | bool]


class ExpertThere(msgspec.Struct, frozen=True):
    """An expert that the plan names this node for. `share` of its rows among `hosts` replicas."""

    layer: int
    expert: int
    precision: str
    price: float
    share: float
    hosts: int


class NodeWhy(msgspec.Struct, frozen=True):
    """A node at the last tick up to the instant that was asked for. Temperature, charge, sunlight: modelled.

    `changes` of its duty so far, the last one holds. `removed`: experts that the first plan named it for and this one
    does not. `power`: its last power setting on record, null if nothing was set in the run. `reasons` are the policies'
    own, of this tick. `power_source`: where its watts are from. `record_ends_s`: the last tick on record, where the
    instant asked for lies more than a tick after it.
    """

    node: str
    asked_s: float
    tick: int
    scenario_s: float
    numbers: NodeNumbers
    limits: dict[str, float]
    changes: tuple[Change, ...]
    power: Act | None
    acts: tuple[Act, ...]
    slices: tuple[tuple[int, int], ...]
    experts: tuple[ExpertThere, ...]
    removed: tuple[tuple[int, int], ...]
    moves: tuple[MoveNumbers, ...]
    reasons: tuple[str, ...]
    power_source: str
    record_ends_s: float | None


def explain_node(folder: Path, node: str, at_s: float) -> NodeWhy:
    """Why `node` was used as it was at scenario second `at_s`.

    Raises:
        UsageError: no such node, or no decision by then.
    """
    journal = Journal.read(folder)
    try:
        limits = msgspec.json.decode(journal.meta("campaign"))["twin"]["limits"]
        first, last, changes = _until(journal, folder, node, at_s, limits)
        index = last.plan.nodes.index(node)
        acts = _acts(journal, node, at_s)
        here = _experts(last, index)
        gone = {(e.layer, e.expert) for e in _experts(first, index)} - {(e.layer, e.expert) for e in here}
        return NodeWhy(
            node, at_s, last.tick, last.scenario_s, last.nodes[index], limits, tuple(changes),
            next((act for act in reversed(acts) if act.event in POWER_ACTS), None), tuple(acts[-MOST_ACTS:]),
            tuple((piece.first, piece.last) for piece in last.plan.gateways if node in piece.nodes), here,
            tuple(sorted(gone)), tuple(one for one in last.moves if node in {one.source, one.target}),
            tuple(last.plan.reason.split("; ")), _power_source(journal, node, last.tick), _ends_before(journal, at_s),
        )  # fmt: skip
    finally:
        journal.close()


def _power_source(journal: Journal, node: str, tick: int) -> str:
    """Where the watts that tick decided by are from."""
    quantity = quantities(journal).get("power_w", {}).get(node)
    if quantity is None:
        return "nothing reported it"
    for _, decision, watts in decided_by(journal):
        if decision.tick == tick and math.isnan(watts[decision.plan.nodes.index(node)]):
            return str(NO_READING)
    return str(quantity.provenance)


def _ends_before(journal: Journal, at_s: float) -> float | None:
    times = [entry.scenario_s for entry in journal.entries("decision")]
    tick_s = times[-1] - times[-2] if len(times) > 1 else 0.0
    return times[-1] if at_s > max(times) + max(tick_s, 0.0) else None


def _until(
    journal: Journal, folder: Path, node: str, at_s: float, limits: dict[str, float]
) -> tuple[Decision, Decision, list[Change]]:
    """The first and the last decision up to `at_s`, and how the node's duty changed between them."""
    first: Decision | None = None
    last: Decision | None = None
    changes: list[Change] = []
    ordered: SetDuty | None = None
    for entry in journal.entries("decision"):
        if entry.scenario_s > at_s:
            continue  # not the end: a run may have been set back in time
        last = msgspec.json.decode(entry.body, type=Decision)
        first = first or last
        if node not in last.plan.nodes:
            raise UsageError(f"{folder}: no node {node!r}", f"it has {_some(last.plan.nodes)}")
        index = last.plan.nodes.index(node)
        duty, now = last.duties[index], last.nodes[index]
        ordered = duty or ordered
        state, why = _duty(now, duty, ordered, limits)
        if not changes or changes[-1].state != state:
            changes.append(
                Change(last.scenario_s, state, why if changes or state != "in service" else "from the start")
            )
    if first is None or last is None:
        raise UsageError(f"{folder}: no decision at scenario second {at_s:g} or before", f"hil report {folder}")
    return first, last, changes


def _some(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _duty(now: NodeNumbers, duty: SetDuty | None, ordered: SetDuty | None, limits: dict[str, float]) -> tuple[str, str]:
    """What the node was to do, and why."""
    if not now.alive:
        return "gone", "the broker published its last will, it said goodbye, or it was started again and told of no run"
    if ordered is not None and not ordered.in_service:
        return "out of service", duty.reason if duty is not None else ordered.reason
    if not now.in_service:
        soft_c, soft = limits["temperature_soft_c"], limits["charge_soft"]
        parts = []
        if now.temperature_c > soft_c:
            parts.append(f"{now.temperature_c:.1f} C is over the soft limit of {soft_c:g} C")
        if now.charge < soft:
            parts.append(f"charge {now.charge:.1%} is under the soft limit of {soft:.1%}")
        held = f"not yet back by the hysteresis: {now.temperature_c:.1f} C, charge {now.charge:.1%}"
        return "no new work", "twin: " + (" and ".join(parts) or held)
    if duty is not None:
        return "in service", duty.reason
    return "in service", f"twin: {now.temperature_c:.1f} C and charge {now.charge:.1%} are within the limits"


def _acts(journal: Journal, node: str, at_s: float) -> list[Act]:
    when, found = ScenarioTime(journal), []
    for entry in journal.entries("event"):
        if entry.node != node:
            continue
        body = decode(entry.body, Record).body
        assert isinstance(body, NodeEvent)
        if body.name in OWN_ACTS and (then_s := when.of(node, body.mono_ns, entry.boot_id)) <= at_s:
            found.append(Act(round(then_s, 3), body.name, body.details))
    return found


def _experts(decision: Decision, index: int) -> tuple[ExpertThere, ...]:
    found = []
    for number, layer in enumerate(decision.plan.layers):
        kinds = layer.precisions()
        for expert, shares in enumerate(layer.hosts):
            total = sum(share.weight for share in shares) or 1.0
            for share in shares:
                if share.node == index:
                    kind = kinds.get((expert, index), "")
                    part = share.weight / total
                    found.append(ExpertThere(number, expert, kind, layer.price[expert], part, len(shares)))
    return tuple(found)
