"""Tables of a run, derived from its journal. Every column carries its unit and where its values came from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.admission import KIND as REFUSED
from ground_controller.admission import Refused
from ground_controller.client_events import AttemptBegan, RequestBegan, RequestEnded, TokenArrived
from ground_controller.decision import FIELDS
from ground_controller.interruption import KIND as RESUMED
from ground_controller.journal import Entry, Journal
from ground_controller.telemetry.power_read import decided_by
from ground_controller.telemetry.scenario_time import ScenarioTime
from ground_controller.telemetry.sources import by_provenance, combined, generated, quantities, timed
from ground_controller.unread import KIND as UNREAD
from hil_config.wire import messages as m
from hil_config.wire.provenance import Provenance, measured, modelled

Row = tuple[Any, ...]
_CLIENT = "client's monotonic clock"
_GATEWAY = "gateway's monotonic clock"
_TWIN = modelled("thermal network and battery of each satellite")
_MODEL = "onnxruntime output"
_RECORD = measured("journal")


class Column(NamedTuple):
    """`kind`: int, float, text, flag or json."""

    name: str
    kind: str
    unit: str
    provenance: Provenance


class Table(NamedTuple):
    """A name, its columns and its rows in journal order."""

    name: str
    columns: tuple[Column, ...]
    rows: Callable[[], Iterator[Row]]


def samples(journal: Journal) -> Table:
    """One row a sample: the columns are the quantities the nodes described."""
    known = quantities(journal)
    when = ScenarioTime(journal)
    columns = (
        Column("node", "text", "", _RECORD),
        Column("boot_id", "text", "", _RECORD),
        Column("mono_ns", "int", "ns", timed(journal, "node's monotonic clock")),
        Column("scenario_s", "float", "s", timed(journal, "node's monotonic clock, offset and anchor")),
        *(
            Column(name, "float", next(iter(nodes.values())).unit, combined(by_provenance(nodes).items()))
            for name, nodes in known.items()
        ),
    )

    def rows() -> Iterator[Row]:
        for entry in journal.entries("samples"):
            body = m.decode(entry.body, m.Record).body
            assert isinstance(body, m.SampleBatch)
            for i, mono_ns in enumerate(body.mono_ns):
                values = (body.columns[name][i] if name in body.columns else None for name in known)
                yield (entry.node, entry.boot_id, mono_ns, when.of(entry.node, mono_ns, entry.boot_id), *values)

    return Table("samples", columns, rows)


def satellites(journal: Journal) -> Table:
    """One row a tick and node: what the policy saw, and the twin's sums since the start.

    `power_w` is null where the policy and the twin had no reading of a living board to go by.
    """
    power = quantities(journal).get("power_w")
    power_by = combined(by_provenance(power).items()) if power else modelled("nothing reported")
    columns = (
        Column("tick", "int", "", _RECORD),
        Column("scenario_s", "float", "s", _RECORD),
        Column("node", "text", "", _RECORD),
        Column("alive", "flag", "", timed(journal, "MQTT last will")),
        Column("in_service", "flag", "", _TWIN),
        Column("power_w", "float", "W", power_by),
        Column("temperature_c", "float", "C", _TWIN),
        Column("charge", "float", "1", _TWIN),
        Column("voltage_v", "float", "V", _TWIN),
        Column("sunlit", "float", "1", modelled("SGP4 and conical eclipse")),
        Column("harvest_w", "float", "W", _TWIN),
        Column("calls_per_s", "float", "1/s", timed(journal, _GATEWAY)),
        *(Column(name, "float", "J", _TWIN) for name in ("solar_j", "load_j", "unused_j", "deficit_j")),
        Column("wear", "float", "1", _TWIN),
        Column("over_limit_s", "float", "s", _TWIN),
        Column("transmit_j", "float", "J", modelled("platform's energy of a sent bit")),
    )

    def rows() -> Iterator[Row]:
        for _, decision, watts in decided_by(journal):
            power_w = [None if math.isnan(value) else value for value in watts.tolist()]
            values = (power_w if field == "power_w" else decision.column(field).tolist() for field in FIELDS)
            for row in zip(decision.plan.nodes, *values, strict=True):
                if journal.covers(row[0]):
                    yield (decision.tick, decision.scenario_s, *row)

    return Table("satellites", columns, rows)


def tokens(journal: Journal) -> Table:
    """One row a token at the client."""
    columns = (
        Column("scenario_s", "float", "s", _RECORD),
        Column("request", "int", "", _RECORD),
        Column("attempt", "int", "", _RECORD),
        Column("position", "int", "", _RECORD),
        Column("token", "int", "", generated(journal, _MODEL)),
        Column("logprob", "float", "nat", generated(journal, _MODEL)),
        Column("margin", "float", "1", generated(journal, _MODEL)),
        Column("degraded", "text", "", _RECORD),
        Column("first", "flag", "", _RECORD),
        Column("since_us", "float", "us", timed(journal, _CLIENT)),
    )

    def rows() -> Iterator[Row]:
        for entry in journal.entries("client_token"):
            t = msgspec.json.decode(entry.body, type=TokenArrived)
            yield (
                entry.scenario_s, t.request, t.attempt, t.position, t.token, t.logprob, t.margin,
                ";".join(t.degraded), t.first, t.since_us,
            )  # fmt: skip

    return Table("tokens", columns, rows)


_TIMES = ("trunk_us", "serialise_us", "link_us", "queue_us", "expert_us", "combine_us")


def steps(journal: Journal) -> Table:
    """One row a step and gateway: where its time went, summed over its layers."""
    columns = (
        Column("scenario_s", "float", "s", _RECORD),
        Column("node", "text", "", _RECORD),
        *(Column(n, "int", "", _RECORD) for n in ("request", "attempt", "start", "rows", "plan_version", "token")),
        Column("plan_expired", "flag", "", _RECORD),
        Column("total_us", "float", "us", timed(journal, _GATEWAY)),
        Column("head_us", "float", "us", timed(journal, _GATEWAY)),
        *(Column(name, "float", "us", timed(journal, _GATEWAY)) for name in _TIMES),
        Column("layers", "int", "", _RECORD),
        Column("kept_mass", "float", "1", generated(journal, _MODEL)),
        Column("expert_rows", "int", "", _RECORD),
        Column("rerouted", "int", "", _RECORD),
        Column("lost", "int", "", _RECORD),
        Column("degraded", "text", "", _RECORD),
    )
    when = ScenarioTime(journal)

    def rows() -> Iterator[Row]:
        for node, boot_id, t in _steps_by_boot(journal):
            times = (sum(getattr(layer, name) for layer in t.layers) for name in _TIMES)
            used = sum(int((np.frombuffer(layer.picks, "<i2") >= 0).sum()) for layer in t.layers)
            yield (
                when.of(node, t.mono_ns, boot_id), node, t.request, t.attempt, t.start, t.rows, t.plan_version, t.token,
                t.plan_expired, t.total_us, t.head_us, *times, len(t.layers), t.kept_mass, used,
                sum(layer.rerouted for layer in t.layers), sum(layer.lost for layer in t.layers),
                ";".join(t.degraded),
            )  # fmt: skip

    return Table("steps", columns, rows)


def token_evidence(journal: Journal) -> Iterator[tuple[str, m.TokenEvidence]]:
    """(gateway, evidence) of every step."""
    for node, _, body in _steps_by_boot(journal):
        yield node, body


def _steps_by_boot(journal: Journal) -> Iterator[tuple[str, str, m.TokenEvidence]]:
    for entry in journal.entries("token"):
        body = m.decode(entry.body, m.Record).body
        assert isinstance(body, m.TokenEvidence)
        yield entry.node, entry.boot_id, body


def links(journal: Journal) -> Table:
    """One row a report of a node about the frames it sent to a peer."""
    by = timed(journal, "sender's monotonic clock")
    columns = (
        Column("scenario_s", "float", "s", _RECORD),
        Column("node", "text", "", _RECORD),
        Column("peer", "text", "", _RECORD),
        *(Column(name, "int", unit, by) for name, unit in (("frames", ""), ("bytes", "B"), ("refused", ""))),
        Column("scheduled_us", "float", "us", modelled("link schedule")),
        *(Column(f"error_{q}_us", "float", "us", by) for q in ("p50", "p99", "max")),
        *(Column(name, "int", "", by) for name in ("lost", "cut")),
        Column("error_histogram", "json", f"frames between {', '.join(map(str, m.ERROR_EDGES_US))} us", by),
    )
    when = ScenarioTime(journal)

    def rows() -> Iterator[Row]:
        for entry in journal.entries("links"):
            r = m.decode(entry.body, m.Record).body
            assert isinstance(r, m.LinkReport)
            time_s = when.of(entry.node, r.mono_ns, entry.boot_id)
            yield (
                time_s, entry.node, r.peer, r.frames, r.bytes, r.refused, r.scheduled_us, *r.error_us, r.lost, r.cut,
                msgspec.json.encode(r.histogram).decode(),
            )  # fmt: skip

    return Table("links", columns, rows)


def histogram_of(text: str) -> NDArray[np.int64]:
    """Counts of a row's `error_histogram`, [edges + 1]; zeros where the report had none."""
    counts = np.zeros(len(m.ERROR_EDGES_US) + 1, np.int64)
    found = msgspec.json.decode(text)
    counts[: len(found)] = found
    return counts


def requests(journal: Journal) -> Table:
    """One row a generation."""
    columns = (
        *(Column(name, "int", "", _RECORD) for name in ("request", "prompt_tokens", "tokens", "attempts")),
        Column("domain", "text", "", _RECORD),
        Column("prompt", "text", "", _RECORD),
        Column("text", "text", "", generated(journal, _MODEL)),
        Column("ended", "text", "", _RECORD),
    )

    def rows() -> Iterator[Row]:
        begun: dict[int, RequestBegan] = {}
        attempts: dict[int, int] = {}
        for entry in journal.entries("request_begin", "attempt", "request_end"):
            if entry.kind == "request_begin":
                begin = msgspec.json.decode(entry.body, type=RequestBegan)
                begun[begin.request] = begin
            elif entry.kind == "attempt":
                attempt = msgspec.json.decode(entry.body, type=AttemptBegan)
                attempts[attempt.request] = attempt.attempt
            else:
                end = msgspec.json.decode(entry.body, type=RequestEnded)
                start = begun[end.request]
                yield (
                    end.request, len(start.prompt_tokens), len(end.tokens), attempts.get(end.request, 0),
                    start.domain, start.prompt, end.text, end.reason,
                )  # fmt: skip

    return Table("requests", columns, rows)


def events(journal: Journal) -> Table:
    """One row an event of a node, a change of its status, or a person's order to the run."""
    columns = (
        Column("scenario_s", "float", "s", _RECORD),
        Column("node", "text", "", _RECORD),
        Column("event", "text", "", _RECORD),
        Column("details", "json", "", _RECORD),
    )

    def rows() -> Iterator[Row]:
        for entry in journal.entries("event", "status", "attempt", UNREAD, REFUSED, "steer", RESUMED):
            name, details = _event(entry)
            yield entry.scenario_s, entry.node, name, details

    return Table("events", columns, rows)


def _event(entry: Entry) -> tuple[str, str]:
    if entry.kind == "event":
        body = m.decode(entry.body, m.Record).body
        assert isinstance(body, m.NodeEvent)
        return body.name, msgspec.json.encode(body.details).decode()
    if entry.kind == "status":
        return "StatusChanged", msgspec.json.encode({"state": m.decode(entry.body, m.Status).state}).decode()
    if entry.kind == REFUSED:
        reason = msgspec.json.decode(entry.body, type=Refused).reason
        return "RecordRefused", msgspec.json.encode({"seq": entry.seq, "reason": reason}).decode()
    names = {"attempt": "AttemptBegan", UNREAD: "BadMessage", "steer": "Steered", RESUMED: "RunResumed"}
    return names[entry.kind], entry.body.decode()


def all_tables(journal: Journal) -> tuple[Table, ...]:
    """Every table of a run."""
    return tuple(make(journal) for make in (samples, satellites, tokens, steps, links, requests, events))
