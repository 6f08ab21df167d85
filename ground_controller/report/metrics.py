"""The numbers of a run, from its journal alone. Figures in the units their names end in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.decision import Decision, history
from ground_controller.journal import Journal
from ground_controller.loop import TickBegan
from ground_controller.physics.ageing_cycles import count_cycles, woehler_wear, xu_wear
from ground_controller.report.accuracy import accuracy
from ground_controller.report.energy import NodeEnergy, node_energy
from ground_controller.report.evaluation import EvaluationResult, evaluation
from ground_controller.report.further import further_figures, further_names
from ground_controller.report.sky_sources import sky_sources
from ground_controller.telemetry import tables
from ground_controller.telemetry.sources import by_provenance, generated, quantities, stride, timed
from ground_controller.telemetry.tables import Table
from hil_config.errors import InvalidRunError

WATERFALL = ("trunk_us", "combine_us", "serialise_us", "link_us", "queue_us", "expert_us", "head_us")


class NodeResult(msgspec.Struct, frozen=True):
    """One node over the run. Temperature, charge and wear are the twin's."""

    node: str
    satellite: str
    ended: str
    temperature_peak_c: float
    temperature_mean_c: float
    over_soft_limit_s: float
    out_of_service_s: float
    charge_start: float
    charge_end: float
    wear: float
    wear_rainflow: float
    wear_xu: float
    voltage_least_v: float
    sunlit_share: float
    expert_rows: int
    gross_j: float | None
    net_j: float | None
    energy_note: str


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
    waterfall_ms: dict[str, float]
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
    gross_j_per_token: float | None
    net_j_per_token: float | None
    nodes: tuple[NodeResult, ...]
    shaper_error_us: dict[str, float]
    outage_refusals: int
    decide_ms: dict[str, float]
    lateness_ms: dict[str, float]
    records: int
    record_gaps: dict[str, int]
    records_missing: dict[str, int]
    broker_restarts: int
    lost_nodes: tuple[str, ...]
    not_measured: tuple[str, ...]

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
    journal = Journal.read(folder)
    try:
        return _Measurement(journal).metrics()
    finally:
        journal.close()


class _Measurement:
    """The tables of one run, read once."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.campaign = msgspec.json.decode(journal.meta("campaign"))
        self.tokens = columns(tables.tokens(journal))
        self.steps = columns(tables.steps(journal))
        self.satellites = columns(tables.satellites(journal))
        self.links = columns(tables.links(journal))
        self.requests = columns(tables.requests(journal))
        self.events = columns(tables.events(journal))
        if not self.satellites["tick"]:
            raise InvalidRunError(f"{journal.path}: the run came to no decision", "run the campaign again")
        self.energy = node_energy(journal)

    def metrics(self) -> Metrics:
        campaign, journal = self.campaign, self.journal
        count = len(self.tokens["token"]) * stride(journal)
        host_s = max(self.satellites["scenario_s"]) / campaign["orbit"]["rate"]
        gross, net = (_total(self.energy, key) for key in ("gross_j", "net_j"))
        ticks = [msgspec.json.decode(e.body, type=TickBegan) for e in journal.entries("tick")]
        causes = Counter(c for text in self.tokens["degraded"] for c in text.split(";") if c)
        rate = campaign["orbit"]["rate"]
        missing = journal.meta("records_missing", "{}")
        cost = accuracy(journal)
        return Metrics(
            run=journal.meta("run"), campaign=campaign["campaign"],
            placement=campaign["policies"]["placement"]["name"],
            selection=campaign["policies"]["selection"]["name"], further=further_names(campaign["policies"]),
            accounting=campaign["twin"]["accounting"], seed=campaign["seed"], rate=rate,
            complete=bool(journal.meta("ended_utc", "")),
            provenance=self.provenance(), sources=self.sources(),
            scenario_s=round(max(self.satellites["scenario_s"]), 3), host_s=round(host_s, 3),
            requests=len(set(self.requests["request"])),
            finished=sum(end in {"length", "end of text"} for end in self.requests["ended"]), tokens=count,
            tokens_per_s=round(count / host_s, 3) if host_s else 0.0,
            ttft_ms=quantiles(self._since(first=True), 1e-3), tpot_ms=quantiles(self._since(first=False), 1e-3),
            waterfall_ms=self.waterfall(), degraded_tokens=sum(bool(text) for text in self.tokens["degraded"]),
            degraded_causes=dict(sorted(causes.items())), restarts=self.restarts(),
            agreement=cost.agreement, given_up_nats=cost.given_up_nats, accuracy_note=cost.note,
            evaluation=evaluation(journal),
            kept_mass=_mean(self.steps["kept_mass"]), experts_per_token=self.experts_per_token(),
            rerouted_rows=sum(self.steps["rerouted"]), lost_rows=sum(self.steps["lost"]),
            **further_figures(journal, self.links), energy_gross_j=gross, energy_net_j=net,
            gross_j_per_token=round(gross / count, 5) if gross is not None and count else None,
            net_j_per_token=round(net / count, 5) if net is not None and count else None,
            nodes=self.node_results(),
            shaper_error_us={q: _worst(self.links[f"error_{q}_us"]) for q in ("p50", "p99", "max")},
            outage_refusals=sum(self.links["refused"]),
            decide_ms=quantiles([t.decide_us for t in ticks[1:]], 1e-3),
            lateness_ms=quantiles([t.lateness_s / rate for t in ticks[1:]], 1e3),
            records=sum(1 for e in journal.entries() if e.seq > 0),
            record_gaps={f"{n} (boot {b})": gap for (n, b), gap in journal.gaps().items()},
            records_missing=msgspec.json.decode(missing, type=dict[str, int]),
            broker_restarts=int(journal.meta("broker_restarts", "0")), lost_nodes=self.lost_nodes(),
            not_measured=self.not_measured(),
        )  # fmt: skip

    def sources(self) -> dict[str, str]:
        """Each reported quantity with where it came from."""
        found = {
            name if len(groups) == 1 else f"{name} of {', '.join(nodes)}": str(provenance)
            for name, by_node in sorted(quantities(self.journal).items())
            for groups in [by_provenance(by_node)]
            for provenance, nodes in groups.items()
        }
        return {
            **found,
            "token and frame times": str(timed(self.journal, "monotonic clocks of client and gateways")),
            "generated text": str(generated(self.journal, "onnxruntime on quantised shards")),
            **sky_sources(self.campaign["orbit"]),
            "satellite temperature, charge, wear": "modelled(twin: thermal network and battery)",
            "energy of transmission, time of migrations": "modelled(bytes sent x J/bit of the platform; contact plan)",
        }

    def provenance(self) -> str:
        """The report's first line."""
        kinds: dict[str, list[str]] = {"measured": [], "modelled": [], "fake": []}
        for name, source in self.sources().items():
            kinds[source.partition("(")[0]].append(f"{name} ({source.partition('(')[2][:-1]})")
        return " ".join(
            f"{kind.capitalize()}: {'; '.join(values) if values else 'nothing'}." for kind, values in kinds.items()
        )

    def not_measured(self) -> tuple[str, ...]:
        """What a reader might expect and will not find."""
        absent = [
            "the link between client and gateways (out of band, not shaped)",
        ]
        if self.campaign["workload"].get("evaluation", "none") != "none":
            absent.append("the share of the energy that went into scoring the evaluation set (it is in the totals)")
        if "temperature_c" not in quantities(self.journal):
            absent.append("die temperature (no thermal zone on these nodes)")
        if stride(self.journal) > 1:
            absent.append(f"what happened between detailed windows, 1 of {stride(self.journal)}: counts are multiplied")
        if self.campaign["orbit"]["rate"] != 1:
            absent.append("anything about die temperature in mission time: the orbit ran accelerated")
        return tuple(absent)

    def _since(self, first: bool) -> list[float]:
        return [us for us, f in zip(self.tokens["since_us"], self.tokens["first"], strict=True) if f == first]

    def waterfall(self) -> dict[str, float]:
        """Mean milliseconds a decoded token spent in each part, over all gateways; `other` is the rest."""
        s = self.steps
        decode = [i for i, rows in enumerate(s["rows"]) if rows == 1]
        done = sum(1 for i in decode if s["token"][i] >= 0)
        if not done:
            return {}
        parts = {name.removesuffix("_us"): sum(s[name][i] for i in decode) / done / 1e3 for name in WATERFALL}
        total = sum(s["total_us"][i] for i in decode) / done / 1e3
        parts["other"] = max(0.0, total - sum(parts.values()))
        between = _mean(self._since(first=False)) / 1e3 - total
        parts["hand-over and queue"] = max(0.0, between)
        return {name: round(value, 4) for name, value in parts.items()}

    def experts_per_token(self) -> float:
        """Experts used per row and layer, prefill included."""
        s = self.steps
        rows = sum(count * layers for count, layers in zip(s["rows"], s["layers"], strict=True))
        return round(sum(s["expert_rows"]) / rows, 4) if rows else 0.0

    def restarts(self) -> dict[str, int]:
        """Why generations began again."""
        reasons = Counter(
            details["reason"]
            for event, text in zip(self.events["event"], self.events["details"], strict=True)
            if event == "AttemptBegan" and (details := msgspec.json.decode(text))["reason"]
        )
        return dict(reasons.most_common(12))

    def lost_nodes(self) -> tuple[str, ...]:
        """Nodes that were gone at some tick, in order."""
        s = self.satellites
        return tuple(dict.fromkeys(n for n, alive in zip(s["node"], s["alive"], strict=True) if not alive))

    def node_results(self) -> tuple[NodeResult, ...]:
        decisions = [msgspec.json.decode(e.body, type=Decision) for e in self.journal.entries("decision")]
        served = served_rows(self.journal)
        names = decisions[0].plan.nodes
        fields = ("alive", "in_service", "temperature_c", "charge", "voltage_v", "sunlit", "wear", "over_limit_s")
        seen = {field: history(decisions, field) for field in fields}
        satellites = self.campaign["orbit"]["satellites"]
        step_s = self.campaign["control"]["tick_s"] * self.campaign["orbit"]["rate"]
        results = []
        for i, name in enumerate(names):
            warm, charge = seen["temperature_c"][:, i], seen["charge"][:, i]
            energy = self.energy.get(name)
            worn = _counted_wear(charge, warm, decisions[-1].scenario_s)
            results.append(
                NodeResult(
                    node=name, satellite=satellites[i], ended="alive" if seen["alive"][-1, i] else "lost",
                    temperature_peak_c=round(float(warm.max()), 3),
                    temperature_mean_c=round(float(warm.mean()), 3),
                    over_soft_limit_s=round(float(seen["over_limit_s"][-1, i]), 3),
                    out_of_service_s=round(int((~seen["in_service"][:, i]).sum()) * step_s, 3),
                    charge_start=round(float(charge[0]), 5), charge_end=round(float(charge[-1]), 5),
                    wear=float(seen["wear"][-1, i]), wear_rainflow=worn[0], wear_xu=worn[1],
                    voltage_least_v=round(float(seen["voltage_v"][:, i].min()), 4),
                    sunlit_share=round(float(seen["sunlit"][:, i].mean()), 4),
                    expert_rows=served.get(i, 0), gross_j=energy.gross_j if energy else None,
                    net_j=energy.net_j if energy else None, energy_note=energy.note if energy else "no samples",
                )
            )  # fmt: skip
        return tuple(results)


def _counted_wear(charge: NDArray[np.float64], warm: NDArray[np.float64], duration_s: float) -> tuple[float, float]:
    """Share of life used by one satellite's history [T]: rainflow with Woehler's line, and Xu et al."""
    cycles = count_cycles(charge, warm)
    return woehler_wear(cycles), xu_wear(cycles, duration_s, float(charge.mean()), float(warm.mean()))


def served_rows(journal: Journal) -> Counter[int]:
    """Expert rows given to each node (index in the plan's node list)."""
    counts: Counter[int] = Counter()
    for _, evidence in tables.token_evidence(journal):
        for layer in evidence.layers:
            hosts = np.frombuffer(layer.hosts, "<i2")
            counts.update(hosts[hosts >= 0].tolist())
    return Counter({host: count * stride(journal) for host, count in counts.items()})


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _worst(values: list[float]) -> float:
    return round(max(values), 1) if values else 0.0


def _total(energy: dict[str, NodeEnergy], key: str) -> float | None:
    values = [getattr(node, key) for node in energy.values()]
    known = [value for value in values if value is not None]
    return round(sum(known), 4) if known and len(known) == len(values) else None
