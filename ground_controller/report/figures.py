"""The report's plots, as plotly figures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import plotly.graph_objects as go

from ground_controller.decision import Decision, history
from ground_controller.journal import Journal
from ground_controller.report.colours import COLOURS
from ground_controller.report.metrics import Metrics, columns
from ground_controller.telemetry import tables
from ground_controller.telemetry.sources import timed
from hil_config.wire.manifest import ModelCard
from hil_config.wire.schedule_file import decode_schedule

HEIGHT = 320


def _layout(figure: go.Figure, title: str, x: str, y: str) -> go.Figure:
    figure.update_layout(
        title=title, xaxis_title=x, yaxis_title=y, height=HEIGHT, template="plotly_white",
        margin={"l": 60, "r": 20, "t": 48, "b": 48}, legend={"orientation": "h", "y": -0.25},
        modebar={"orientation": "v"},
    )  # fmt: skip
    return figure


def _lines(decisions: list[Decision], field: str, title: str, unit: str) -> go.Figure:
    figure = go.Figure()
    time_s = [d.scenario_s for d in decisions]
    for i, (name, values) in enumerate(zip(decisions[0].plan.nodes, history(decisions, field).T.tolist(), strict=True)):
        figure.add_scatter(x=time_s, y=values, name=name, line={"color": COLOURS[i % len(COLOURS)]})
    return _layout(figure, title, "orbit, s", unit)


def _bounds(figure: go.Figure, soft: float, hard: float) -> go.Figure:
    figure.add_hline(y=soft, line_dash="dash", line_color="#b58900", annotation_text="soft limit")
    figure.add_hline(y=hard, line_dash="dash", line_color="#dc322f", annotation_text="hard limit")
    return figure


def _waterfall(metrics: Metrics, kind: str) -> go.Figure:
    figure = go.Figure()
    for i, (name, value) in enumerate(metrics.waterfall_ms.items()):
        figure.add_bar(x=[value], y=["token"], name=name, orientation="h", marker_color=COLOURS[i % len(COLOURS)])
    _layout(figure, f"Where a decoded token's time goes (mean, {kind})", "ms", "")
    return figure.update_layout(barmode="stack")


def _tpot(tokens: dict[str, list[Any]], kind: str) -> go.Figure:
    later = [i for i, first in enumerate(tokens["first"]) if not first]
    degraded = [i for i in later if tokens["degraded"][i]]
    figure = go.Figure()
    for name, rows, colour in (("token", later, "#1f77b4"), ("degraded token", degraded, "#d62728")):
        figure.add_scattergl(
            x=[tokens["scenario_s"][i] for i in rows], y=[tokens["since_us"][i] / 1e3 for i in rows], mode="markers",
            name=name, marker={"size": 4, "color": colour},
        )  # fmt: skip
    _layout(figure, f"Time per output token at the client ({kind})", "orbit, s", "ms")
    return figure.update_yaxes(type="log")


def _heat_map(journal: Journal, kind: str) -> go.Figure:
    card = msgspec.json.decode(journal.meta("model_card"), type=ModelCard)
    counts: Counter[tuple[int, int]] = Counter()
    for _, evidence in tables.token_evidence(journal):
        for layer in evidence.layers:
            picks = np.frombuffer(layer.picks, "<i2")
            counts.update((layer.layer, int(e)) for e in picks[picks >= 0])
    grid = [[counts[layer, e] for e in range(card.experts)] for layer in range(card.layers)]
    figure = go.Figure(go.Heatmap(z=grid, colorscale="Viridis", colorbar={"title": "rows"}))
    return _layout(figure, f"Expert use ({kind})", "expert", "layer")


def _delays(journal: Journal, folder: Path) -> go.Figure:
    schedule = decode_schedule((folder / "schedule.hsched").read_bytes(), str(folder / "schedule.hsched"))
    figure = go.Figure()
    time_s = np.arange(0.0, schedule.duration_s + schedule.header.step_s / 2, schedule.header.step_s)
    seen = schedule.sample(time_s)
    for column, (a, b) in enumerate(schedule.header.pairs):
        if a < b:
            delay = np.where(seen.up[:, column], seen.delay_s[:, column] * 1e3, np.nan)
            values = [None if np.isnan(v) else round(float(v), 4) for v in delay]
            figure.add_scatter(x=time_s.tolist(), y=values, name=f"{a} - {b}")
    return _layout(figure, "One-way link delay (modelled; a gap is an outage)", "orbit, s", "ms")


def figures(folder: Path, metrics: Metrics) -> list[go.Figure]:
    """All plots of a run, in the order of the page."""
    journal = Journal.read(folder)
    try:
        decisions = [msgspec.json.decode(e.body, type=Decision) for e in journal.entries("decision")]
        limits = msgspec.json.decode(journal.meta("campaign"))["twin"]["limits"]
        kind = timed(journal, "monotonic clocks").kind
        power = metrics.sources.get("power_w", "modelled(nothing reported)").partition("(")[0]
        return [
            _bounds(
                _lines(decisions, "temperature_c", "Temperature in orbit (modelled by the twin)", "C"),
                limits["temperature_soft_c"], limits["temperature_hard_c"],
            ),
            _bounds(
                _lines(decisions, "charge", "State of charge (modelled by the twin)", "of capacity"),
                limits["charge_soft"], limits["charge_hard"],
            ),
            _lines(decisions, "power_w", f"Board power ({power})", "W"),
            _lines(decisions, "calls_per_s", f"Expert rows a second by host ({kind})", "1/s"),
            _waterfall(metrics, kind),
            _tpot(columns(tables.tokens(journal)), kind),
            _heat_map(journal, kind),
            _delays(journal, folder),
        ]  # fmt: skip
    finally:
        journal.close()
