"""The numbers of a run, from its journal alone. Figures in the units their names end in."""

from __future__ import annotations

import math
from collections import Counter
from operator import mul
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ground_controller.decision import Decision
from ground_controller.interruption import Interruption, interruptions
from ground_controller.journal import Journal
from ground_controller.loop import TickBegan
from ground_controller.report.accuracy import accuracy
from ground_controller.report.answers import Answer, answers
from ground_controller.report.energy import METHOD, NodeEnergy, energy_of, node_power
from ground_controller.report.evaluation import EvaluationResult, evaluation
from ground_controller.report.further import further_figures, further_names
from ground_controller.report.links import LinkResult, link_results
from ground_controller.report.nodes import NodeResult, node_results
from ground_controller.report.origins import first_line, not_measured, sources
from ground_controller.report.passed import passed
from ground_controller.report.requirements import RequirementResult, judge
from ground_controller.report.served import served
from ground_controller.report.waterfall import waterfall
from ground_controller.run_folder import open_models, open_run
from ground_controller.simulation.mode_times import mode_shares
from ground_controller.telemetry import tables
from ground_controller.telemetry.sources import stride
from ground_controller.telemetry.tables import Table
from ground_controller.unread import unread_messages
from hil_config.errors import InvalidRunError
from hil_config.schema.campaign import Campaign
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.manifest import ModelCard
from hil_config.wire.schedule_file import decode_schedule


class Metrics(msgspec.Struct, frozen=True):
    """A run in numbers; see docs/reference/metrics.md."""

    run: str
    campaign: str
    placement: str
    selection: str
    further: dict[str, str]
    accounting: str
    seed: int
    rate: float
    complete: bool
    interruptions: tuple[Interruption, ...]
    provenance: str
    sources: dict[str, str]
    scenario_s: float
    host_s: float
    requests: int
    finished: int
    tokens: int
    tokens_per_s: float
    ttft_ms: dict[str, float]
    tpot_ms: dict[str, float]
    answers: tuple[Answer, ...]
    waterfall_ms: dict[str, float]
    waterfall_whole_ms: float
    waterfall_tokens: int
    degraded_tokens: int
    degraded_causes: dict[str, int]
    restarts: dict[str, int]
    agreement: float | None
    given_up_nats: float | None
    accuracy_note: str
    evaluation: EvaluationResult | None
    kept_mass: float
    experts_per_token: float
    rerouted_rows: int
    lost_rows: int
    rows_by_precision: dict[str, int]
    calls_by_codec: dict[str, int]
    link_bytes: int
    transmit_j: float
    migrations: dict[str, int]
    migration_bytes: int
    migration_j: float
    energy_gross_j: float | None
    energy_net_j: float | None
    energy_gross_uncertainty_j: float | None
    energy_method: str
    gross_j_per_token: float | None
    net_j_per_token: float | None
    limits: dict[str, float]
    nodes: tuple[NodeResult, ...]
    expert_use: tuple[tuple[int, ...], ...]
    links: tuple[LinkResult, ...]
    shaper_error_us: dict[str, float]
    outage_refusals: int
    decide_ms: dict[str, float]
    lateness_ms: dict[str, float]
    records: int
    record_gaps: dict[str, int]
    records_missing: dict[str, int]
    records_refused: dict[str, int]
    messages_unread: dict[str, int]
    broker_restarts: int
    lost_nodes: tuple[str, ...]
    not_measured: tuple[str, ...]
    requirements: tuple[RequirementResult, ...] = ()
    models: Metrics | None = None
    modes: dict[str, dict[str, float]] = {}

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def quantiles(values: list[float], scale: float = 1.0) -> dict[str, float]:
    """p50, p95, p99 and max; empty when there is nothing."""
    if not values:
        return {}
    array = np.array(values) * scale
    found = {f"p{q}": float(np.percentile(array, q)) for q in (50, 95, 99)}
    return {**{k: round(v, 3) for k, v in found.items()}, "max": round(float(array.max()), 3)}


def columns(table: Table) -> dict[str, list[Any]]:
    """The table by column."""
    names = [column.name for column in table.columns]
    rows = list(table.rows())
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {n: [] for n in names}


def measure(folder: Path) -> Metrics:
    """Everything the report says, or InvalidRunError when the run never came to a decision."""
    journal = open_run(folder)
    try:
        schedule = _schedule(folder)
        metrics = _Measurement(journal, schedule).metrics()
        wanted = Campaign.model_validate_json(journal.meta("campaign")).requirements
        met = judge(wanted, metrics)
    finally:
        journal.close()
    return msgspec.structs.replace(metrics, requirements=met, models=_models(folder, schedule))


def _models(folder: Path, schedule: LinkSchedule | None) -> Metrics | None:
    """The same figures of the model nodes beside real ones."""
    journal = open_models(folder)
    if journal is None:
        return None
    try:
        return _Measurement(journal, schedule).metrics()
    finally:
        journal.close()


def _schedule(folder: Path) -> LinkSchedule | None:
    path = folder / "schedule.hsched"
    return decode_schedule(path.read_bytes(), str(path)) if path.exists() else None


class _Measurement:
    """The tables of one run, read once."""

    def __init__(self, journal: Journal, schedule: LinkSchedule | None) -> None:
        self.journal = journal
        self.campaign = msgspec.json.decode(journal.meta("campaign"))
        self.decisions = [msgspec.json.decode(e.body, type=Decision) for e in journal.entries("decision")]
        if not self.decisions:
            raise InvalidRunError(f"{journal.path}: the run came to no decision", "run the campaign again")
        self.tokens = columns(tables.tokens(journal))
        self.steps = columns(tables.steps(journal))
        self.links = columns(tables.links(journal))
        self.requests = columns(tables.requests(journal))
        self.events = columns(tables.events(journal))
        orbit = self.campaign["orbit"]
        satellites = dict(zip(self.decisions[0].plan.nodes, orbit["satellites"], strict=True))
        self.passed = passed(journal)
        faster = orbit["rate"] if orbit["acceleration"] == "links" else 1.0
        self.by_link = link_results(self.links, schedule, satellites, self.passed.spans, faster)
        self.power = node_power(journal)
        self.energy = {node: energy_of(one) for node, one in self.power.items()}

    def metrics(self) -> Metrics:
        campaign, journal = self.campaign, self.journal
        times = stride(journal)
        count = len(self.tokens["token"]) * times
        scenario_s, host_s, rate = self.passed.scenario_s, self.passed.host_s, campaign["orbit"]["rate"]
        until_s = campaign["orbit"]["duration_s"] + 1e-6  # ticks are added up
        inside = sum(at_s <= until_s for at_s in self.tokens["scenario_s"]) * times
        gross, net = (_total(self.energy, key) for key in ("gross_j", "net_j"))
        ticks = [msgspec.json.decode(e.body, type=TickBegan) for e in journal.entries("tick")]
        causes = Counter(c for text in self.tokens["degraded"] for c in text.split(";") if c)
        missing, cost, used = journal.meta("records_missing", "{}"), accuracy(journal), served(journal)
        evaluated, origin = evaluation(journal), sources(journal, campaign)
        layers = msgspec.json.decode(journal.meta("model_card"), type=ModelCard).layers
        fall = waterfall(self.tokens, self.steps, layers)
        return Metrics(
            run=journal.meta("run"), campaign=campaign["campaign"],
            placement=campaign["policies"]["placement"]["name"],
            selection=campaign["policies"]["selection"]["name"], further=further_names(campaign["policies"]),
            accounting=campaign["twin"]["accounting"], seed=campaign["seed"], rate=rate,
            complete=bool(journal.meta("ended_utc", "")), interruptions=interruptions(journal),
            provenance=first_line(origin), sources=origin, scenario_s=round(scenario_s, 3), host_s=round(host_s, 3),
            requests=len(set(self.requests["request"])),
            finished=sum(end in {"length", "end of text"} for end in self.requests["ended"]), tokens=count,
            tokens_per_s=round(inside / host_s, 3) if host_s else 0.0,
            ttft_ms=quantiles(self._since(first=True), 1e-3), tpot_ms=quantiles(self._since(first=False), 1e-3),
            answers=answers(journal, self.tokens, self.power, self.energy, evaluated),
            waterfall_ms={part: round(ms, 6) for part, ms in fall.parts_ms.items()},
            waterfall_whole_ms=round(fall.whole_ms, 6), waterfall_tokens=fall.tokens,
            degraded_tokens=times * sum(bool(text) for text in self.tokens["degraded"]),
            degraded_causes={cause: times * n for cause, n in sorted(causes.items())}, restarts=self.restarts(),
            agreement=cost.agreement, given_up_nats=cost.given_up_nats, accuracy_note=cost.note,
            evaluation=evaluated,
            kept_mass=self.kept_mass(), experts_per_token=self.experts_per_token(),
            rerouted_rows=times * sum(self.steps["rerouted"]), lost_rows=times * sum(self.steps["lost"]),
            **further_figures(journal, self.links), energy_gross_j=gross, energy_net_j=net,
            energy_gross_uncertainty_j=_uncertainty(self.energy) if gross is not None else None, energy_method=METHOD,
            gross_j_per_token=round(gross / inside, 5) if gross is not None and inside else None,
            net_j_per_token=round(net / inside, 5) if net is not None and inside else None,
            limits=campaign["twin"]["limits"],
            nodes=tuple(
                one for one in node_results(
                    self.passed, campaign, used.hosts, self.energy, self.decisions[-1].column("alive").astype(bool)
                )
                if journal.covers(one.node)
            ),
            expert_use=tuple(map(tuple, used.experts.tolist())), links=self.by_link,
            shaper_error_us={q: _worst(self.links[f"error_{q}_us"]) for q in ("p50", "p99", "max")},
            outage_refusals=sum(self.links["refused"]),
            decide_ms=quantiles([t.decide_us for t in ticks[1:]], 1e-3),
            lateness_ms=quantiles([t.lateness_s / rate for t in ticks[1:]], 1e3),
            records=journal.records(),
            record_gaps=_by_boot(journal.gaps()),
            records_missing=msgspec.json.decode(missing, type=dict[str, int]),
            records_refused=_by_boot(journal.refused()),
            messages_unread={node or "a board": count for node, (count, _) in unread_messages(journal).items()},
            broker_restarts=int(journal.meta("broker_restarts", "0")), lost_nodes=self.lost_nodes(),
            not_measured=not_measured(journal, campaign, self.by_link, fall.left_out), modes=mode_shares(journal),
        )  # fmt: skip

    def _since(self, first: bool) -> list[float]:
        return [us for us, f in zip(self.tokens["since_us"], self.tokens["first"], strict=True) if f == first]

    def kept_mass(self) -> float:
        """Mean over rows and layers, prefill included: a step has as many rows as it takes tokens in."""
        rows = self._rows()
        return sum(map(mul, self.steps["kept_mass"], rows)) / sum(rows) if rows else 0.0

    def experts_per_token(self) -> float:
        """Experts used per row and layer, prefill included."""
        rows = self._rows()
        return round(sum(self.steps["expert_rows"]) / sum(rows), 4) if rows else 0.0

    def _rows(self) -> list[int]:
        """Rows of each step, once a layer."""
        return list(map(mul, self.steps["rows"], self.steps["layers"]))

    def restarts(self) -> dict[str, int]:
        """Why generations began again."""
        reasons = Counter(
            details["reason"]
            for event, text in zip(self.events["event"], self.events["details"], strict=True)
            if event == "AttemptBegan" and (details := msgspec.json.decode(text)).get("reason")
        )
        return dict(reasons.most_common(12))

    def lost_nodes(self) -> tuple[str, ...]:
        """Nodes that were gone at some tick, in order."""
        gone = [np.flatnonzero(~d.column("alive").astype(bool)).tolist() for d in self.decisions]
        lost = dict.fromkeys(d.plan.nodes[i] for d, at in zip(self.decisions, gone, strict=True) for i in at)
        return tuple(node for node in lost if self.journal.covers(node))


def _by_boot(counts: dict[tuple[str, str], int]) -> dict[str, int]:
    return {f"{node} (boot {boot})": count for (node, boot), count in counts.items()}


def _worst(values: list[float]) -> float:
    return round(max(values), 1) if values else 0.0


def _total(energy: dict[str, NodeEnergy], key: str) -> float | None:
    values = [getattr(node, key) for node in energy.values()]
    known = [value for value in values if value is not None]
    return round(sum(known), 4) if known and len(known) == len(values) else None


def _uncertainty(energy: dict[str, NodeEnergy]) -> float:
    """Of the sum over nodes, whose errors are independent."""
    return round(math.sqrt(sum(one.uncertainty_j**2 for one in energy.values())), 5)
