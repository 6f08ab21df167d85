"""A bench's live summaries in Prometheus' text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).

Base units, as Prometheus asks for. A value carries the label `provenance` (measured, modelled, fake), as its node
describes it. What a node said more than `FRESH_S` ago is left out: an old value must not look like a present one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ground_controller.fleet.summaries import Heard

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FRESH_S = 10.0


class Metric(NamedTuple):
    """`field` of a Summary times `scale`; `quantity`: the column whose provenance counts, "" for plain counts."""

    name: str
    kind: str
    help: str
    field: str
    scale: float = 1.0
    quantity: str = ""


METRICS = (
    Metric("hil_power_watts", "gauge", "Electrical power of the board.", "power_w", 1.0, "power_w"),
    Metric("hil_temperature_celsius", "gauge", "Temperature of the board.", "temperature_c", 1.0, "temperature_c"),
    Metric("hil_cpu_ratio", "gauge", "Processor use of the agent, 1: one core.", "cpu_percent", 0.01, "cpu_percent"),
    Metric("hil_memory_bytes", "gauge", "Resident memory of the agent.", "memory_mb", 1e6, "memory_mb"),
    Metric("hil_tokens_total", "counter", "Tokens that this gateway gave out in its run.", "tokens"),
    Metric("hil_expert_calls_total", "counter", "Expert calls that this node answered in its run.", "expert_calls"),
    Metric("hil_spooled_records", "gauge", "Evidence waiting to be committed by the ground.", "spooled"),
)


def exposition(bench: str, nodes: Mapping[str, Heard], connected: bool, unread: Mapping[str, int], now_s: float) -> str:
    """The page; `unread`: messages by node that could not be read; `now_s` as `time.monotonic`."""
    lines = _head("hil_broker_up", "gauge", "1 while the broker is connected.")
    lines.append(f"hil_broker_up{_labels(bench=bench)} {int(connected)}")
    lines += _head("hil_bad_messages_total", "counter", "Messages of the node that could not be read.")
    for name in sorted({*nodes, *unread}):
        lines.append(f"hil_bad_messages_total{_labels(bench=bench, node=name)} {unread.get(name, 0)}")
    lines += _head("hil_node_up", "gauge", "1 while the node is online and its summaries come.")
    fresh = {}
    for name, one in nodes.items():
        there = connected and one.status is not None and one.status.state != "offline"
        up = there and one.at_s > 0.0 and now_s - one.at_s <= FRESH_S
        lines.append(f"hil_node_up{_labels(bench=bench, node=name)} {int(up)}")
        if up:
            fresh[name] = one
    lines += _head("hil_node_info", "gauge", "1, with what the node says of itself.")
    for name, one in nodes.items():
        if one.status is not None:
            told = {"boot_id": one.status.boot_id, "version": one.status.agent_version, "state": one.status.state}
            lines.append(f"hil_node_info{_labels(bench=bench, node=name, **told)} 1")
    for metric in METRICS:
        rows = [row for name, one in fresh.items() if (row := _row(metric, bench, name, one))]
        if rows:
            lines += [*_head(metric.name, metric.kind, metric.help), *rows]
    return "\n".join(lines) + "\n"


def _row(metric: Metric, bench: str, node: str, one: Heard) -> str:
    value = None if one.summary is None else getattr(one.summary, metric.field)
    if value is None:
        return ""
    labels = {"bench": bench, "node": node}
    if metric.quantity:
        found = [q for q in one.status.quantities if q.name == metric.quantity] if one.status else []
        labels["provenance"] = found[0].provenance.kind if found else "unknown"
    return f"{metric.name}{_labels(**labels)} {value * metric.scale:.10g}"


def _head(name: str, kind: str, help_text: str) -> list[str]:
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]


def _labels(**labels: str) -> str:
    told = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(told) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
