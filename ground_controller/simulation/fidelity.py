"""The same campaign on boards and in simulation, side by side: how far a simulated figure can be trusted.

Bytes of single links follow the gateways: where a board near a limit leaves service in one run and not in the other,
another board takes its slice, and links differ by several times. Shares of steps and seconds without new work say so.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ground_controller.journal import Journal
from ground_controller.mixed import META as MIXED
from ground_controller.report.accounting import measure_together
from ground_controller.report.metrics import Metrics
from ground_controller.simulation.mode_model import ModeUse
from ground_controller.simulation.mode_times import mode_shares
from ground_controller.telemetry.sources import by_provenance, combined, quantities, simulated_modes
from hil_config.errors import InvalidRunError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.wire.messages import LinkReport, Record, decode

AIMS = {"TPOT p50, ms": 0.10, "energy gross, J": 0.05}
"""Largest relative difference that is aimed at; for power it is the bar of RHONE."""


class Pair(NamedTuple):
    """One figure of both runs. `within` says whether an aim is met; None where none is set."""

    name: str
    real: float | None
    simulated: float | None
    ratio: float | None
    within: bool | None


def power_of(folder: Path) -> str:
    """Where the watts of a run on boards are from: an energy that was modelled there proves nothing about energy."""
    journal = Journal.read(folder)
    try:
        found = quantities(journal).get("power_w", {})
    finally:
        journal.close()
    return str(combined(by_provenance(found).items())) if found else "nothing reported it"


def _link_bytes(folder: Path) -> Counter[str]:
    journal = Journal.read(folder)
    try:
        found: Counter[str] = Counter()
        for entry in journal.entries("links"):
            body = decode(entry.body, Record).body
            assert isinstance(body, LinkReport)
            if body.peer != "ground":
                found[f"{entry.node} to {body.peer}"] += body.bytes
        return found
    finally:
        journal.close()


def _gateway_steps(folder: Path) -> Counter[str]:
    """Steps by the node that was their gateway: most frames go from and to those."""
    journal = Journal.read(folder)
    try:
        return Counter(entry.node for entry in journal.entries("token"))
    finally:
        journal.close()


class _Inputs(NamedTuple):
    campaign: str
    schedule: str
    boards: tuple[tuple[str, str], ...]
    simulated: bool
    mixed: bool
    ended: bool


def _inputs(folder: Path) -> _Inputs:
    journal = Journal.read(folder)
    try:
        boards = Bench.model_validate_json(journal.meta("bench")).boards
        return _Inputs(
            Campaign.model_validate_json(journal.meta("campaign")).model_dump_json(), journal.meta("schedule_sha256"),
            tuple((board.name, board.profile) for board in boards), bool(journal.meta("simulated", "")),
            bool(journal.meta(MIXED, "")), bool(journal.meta("ended_utc", "")),
        )  # fmt: skip
    finally:
        journal.close()


def modes_used(simulated: Path) -> tuple[ModeUse, ...]:
    """Power modes that the boards of a simulated run could be ordered into, and whether they were calibrated."""
    journal = Journal.read(simulated)
    try:
        return simulated_modes(journal)
    finally:
        journal.close()


def _mode_shares(folder: Path) -> dict[str, float]:
    journal = Journal.read(folder)
    try:
        found = mode_shares(journal)
    finally:
        journal.close()
    return {
        f"share of time {node} in mode {mode}": share for node, modes in found.items() for mode, share in modes.items()
    }


def compare(real: Path, simulated: Path) -> list[Pair]:
    """Figures of a run on boards beside those of its simulation; InvalidRunError where they are not of one campaign."""
    ours, theirs = _inputs(real), _inputs(simulated)
    if ours.simulated or not theirs.simulated:
        wrong = f"{real} was simulated" if ours.simulated else f"{simulated} was on boards"
        raise InvalidRunError(
            f"{wrong}: wanted a run on boards and a simulated one, in this order", "hil fidelity REAL SIMULATED"
        )
    if ours.mixed:
        raise InvalidRunError(
            f"{real}: it had model boards beside real ones, each kind with requests of its own; simulated they are one"
            " fleet, so there is nothing to put beside it", "run and simulate the campaign on the real boards alone"
        )  # fmt: skip
    if ours[:3] != theirs[:3]:
        raise InvalidRunError(
            f"{simulated}: its campaign, schedule or boards are not those of {real}",
            "simulate the same files: hil simulate",
        )
    for folder, found in ((real, ours), (simulated, theirs)):
        if not found.ended:
            raise InvalidRunError(
                f"{folder}: the run has not ended: its energy is that of part of the orbit",
                f"go on with it: hil campaign resume {folder}",
            )
    a, b = measure_together((real, simulated))
    for folder, metrics in ((real, a), (simulated, b)):
        if not metrics.tokens:
            raise InvalidRunError(
                f"{folder}: the run generated no token: nothing to put beside it", f"hil report {folder}"
            )
    rows = [*_totals(a, b), *_nodes(a, b)]
    served, serves = _gateway_steps(real), _gateway_steps(simulated)
    rows += [
        (f"share of steps at {node}", served[node] / served.total(), serves[node] / serves.total())
        for node in sorted(served | serves)
    ]
    there, here = _link_bytes(real), _link_bytes(simulated)
    rows += [(f"bytes {link} a token", _each(there[link], a), _each(here[link], b)) for link in sorted(there | here)]
    were, are = _mode_shares(real), _mode_shares(simulated)
    rows += [(name, were.get(name, 0.0), are.get(name, 0.0)) for name in sorted({*were, *are})]
    return [_pair(*row) for row in rows]


def _totals(a: Metrics, b: Metrics) -> list[tuple[str, float | None, float | None]]:
    return [
        ("TPOT p50, ms", a.tpot_ms.get("p50"), b.tpot_ms.get("p50")),
        ("TPOT p95, ms", a.tpot_ms.get("p95"), b.tpot_ms.get("p95")),
        ("TTFT p50, ms", a.ttft_ms.get("p50"), b.ttft_ms.get("p50")),
        ("tokens a second", a.tokens_per_s, b.tokens_per_s),
        ("energy gross, J", a.energy_gross_j, b.energy_gross_j),
        ("energy above idle, J", a.energy_net_j, b.energy_net_j),
        ("energy above idle a token, J", a.net_j_per_token, b.net_j_per_token),
        ("experts a row and layer", a.experts_per_token, b.experts_per_token),
        ("gate mass kept", a.kept_mass, b.kept_mass),
    ]


def _nodes(a: Metrics, b: Metrics) -> list[tuple[str, float | None, float | None]]:
    found: list[tuple[str, float | None, float | None]] = []
    for one, other in zip(a.nodes, b.nodes, strict=True):
        found.append((f"{one.node} peak, C", one.temperature_peak_c, other.temperature_peak_c))
        found.append((f"{one.node} charge at the end", one.charge_end, other.charge_end))
        if one.out_of_service_s or other.out_of_service_s:
            found.append((f"{one.node} without new work, s", one.out_of_service_s, other.out_of_service_s))
    return found


def _each(count: int, metrics: Metrics) -> float | None:
    return count / metrics.tokens if metrics.tokens else None


def _pair(name: str, real: float | None, simulated: float | None) -> Pair:
    if real is None or simulated is None or not real:
        return Pair(name, real, simulated, None, None)
    ratio = simulated / real
    aim = AIMS.get(name)
    return Pair(name, real, simulated, ratio, None if aim is None else abs(ratio - 1.0) <= aim)
