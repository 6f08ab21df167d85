"""The report's plots, as plotly figures, by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ground_controller.decision import Decision, history
from ground_controller.report.colours import COLOURS
from ground_controller.report.html_parts import styled
from ground_controller.report.links import LinkResult, bin_labels
from ground_controller.report.metrics import Metrics, columns
from ground_controller.run_folder import open_run
from ground_controller.telemetry import tables
from ground_controller.telemetry.power_read import decided_by
from ground_controller.telemetry.sources import by_provenance, combined, quantities, timed
from hil_config.wire.schedule_file import decode_schedule

MOST_LINES = 12
"""Curves in one plot; of more nodes (or links) a plot shows the spread."""
MOST_PAIRS = 200
MOST_POINTS = 20_000
"""Tokens drawn; of more, every n-th."""


def _lines(
    decisions: list[Decision], nodes: frozenset[str], field: str | NDArray[np.float64], title: str, unit: str
) -> go.Figure:
    """Of a field of the decisions, or of values [T, N]."""
    time_s, names = [d.scenario_s for d in decisions], decisions[0].plan.nodes
    at = [i for i, name in enumerate(names) if name in nodes]
    values = history(decisions, field) if isinstance(field, str) else field
    return _curves(time_s, tuple(names[i] for i in at), values[:, at], title, unit)


def _curves(time_s: list[float], names: tuple[str, ...], values: Any, title: str, unit: str) -> go.Figure:
    """[T, N] over time: a curve each, or of many the least, the median and the greatest at each instant."""
    figure = go.Figure()
    curves = dict(zip(names, values.T, strict=True))
    if len(names) > MOST_LINES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # an instant at which there is nothing is a gap
            spread = np.nanquantile(values.astype(np.float64), (1.0, 0.5, 0.0), axis=1)
        curves = dict(zip((f"greatest of {len(names)}", "median", "least"), spread, strict=True))
    for i, (name, curve) in enumerate(curves.items()):
        shown = [None if np.isnan(v) else round(float(v), 5) for v in curve]
        figure.add_scatter(x=time_s, y=shown, name=name, line={"color": COLOURS[i % len(COLOURS)]})
    return styled(figure, title, "orbit, s", unit)


def _bounds(figure: go.Figure, soft: float, hard: float) -> go.Figure:
    figure.add_hline(y=soft, line_dash="dash", line_color="#b58900", annotation_text="soft limit")
    figure.add_hline(y=hard, line_dash="dash", line_color="#dc322f", annotation_text="hard limit")
    return figure


def _waterfall(metrics: Metrics, kind: str) -> go.Figure:
    parts = metrics.waterfall_ms
    figure = go.Figure(
        go.Waterfall(
            y=[*parts, "token"], x=[*parts.values(), metrics.waterfall_whole_ms], orientation="h",
            measure=["relative"] * len(parts) + ["total"], text=[f"{round(v, 2) + 0.0:.2f}" for v in parts.values()]
            + [f"{metrics.waterfall_whole_ms:.2f}"], textposition="outside", cliponaxis=False,
            increasing={"marker": {"color": COLOURS[0]}}, decreasing={"marker": {"color": COLOURS[4]}},
            totals={"marker": {"color": COLOURS[1]}}, connector={"line": {"color": "#888", "width": 1}},
        )
    )  # fmt: skip
    styled(figure, f"Where a decoded token's time goes (mean of {metrics.waterfall_tokens}, {kind})", "ms", "", 360)
    room = {"range": [0, 1.15 * max(metrics.waterfall_whole_ms, sum(v for v in parts.values() if v > 0))]}
    return figure.update_layout(yaxis={"autorange": "reversed"}, xaxis=room, margin={"l": 110})


def _tpot(tokens: dict[str, list[Any]], kind: str) -> go.Figure:
    later = [i for i, first in enumerate(tokens["first"]) if not first]
    degraded = [i for i in later if tokens["degraded"][i]]
    every = max(1, -(-len(later) // MOST_POINTS))
    figure = go.Figure()
    all_or_some = "token" if every == 1 else f"token (1 of {every})"
    for name, rows, colour, mark in (
        (all_or_some, later[::every], COLOURS[0], "circle"),
        ("degraded token", degraded[:MOST_POINTS], COLOURS[1], "x"),
    ):  # fmt: skip
        figure.add_scattergl(
            x=[round(tokens["scenario_s"][i], 3) for i in rows],
            y=[round(tokens["since_us"][i] / 1e3, 3) for i in rows],
            mode="markers", name=name, marker={"size": 4 if mark == "circle" else 7, "color": colour, "symbol": mark},
        )  # fmt: skip
    styled(figure, f"Time per output token at the client ({kind})", "orbit, s", "ms")
    return figure.update_yaxes(type="log")


def _heat_map(metrics: Metrics, kind: str) -> go.Figure:
    figure = go.Figure(
        go.Heatmap(z=[list(row) for row in metrics.expert_use], colorscale="Viridis", colorbar={"title": "rows"})
    )
    return styled(figure, f"Expert use ({kind})", "expert", "layer")


def _errors(links: tuple[LinkResult, ...], kind: str) -> go.Figure:
    """All shaped frames between nodes by achieved minus scheduled delay."""
    counts = np.sum([one.histogram for one in links], axis=0) if links else np.zeros(len(bin_labels()))
    share = counts / max(1.0, float(counts.sum())) * 100.0
    figure = go.Figure(
        go.Bar(x=list(bin_labels()), y=share.tolist(), marker_color=COLOURS[0], customdata=counts.tolist(),
               hovertemplate="%{x}: %{customdata} frames, %{y:.2f} %<extra></extra>")
    )  # fmt: skip
    title = f"Achieved minus scheduled delay of {int(counts.sum())} frames ({kind})"
    return styled(figure, title, "", "% of frames").update_xaxes(type="category")


def _delays(folder: Path) -> go.Figure | None:
    path = folder / "schedule.hsched"
    if not path.exists():
        return None
    schedule = decode_schedule(path.read_bytes(), str(path))
    pairs = [(a, b) for a, b in schedule.header.pairs if a < b]
    count, every = len(pairs), max(1, -(-len(pairs) // MOST_PAIRS))
    pairs = pairs[::every]
    steps = max(1, round(schedule.duration_s / schedule.header.step_s))
    time_s = np.linspace(0.0, schedule.duration_s, (steps if len(pairs) <= MOST_LINES else min(steps, 120)) + 1)
    states = [[schedule.link(a, b, float(t)) for a, b in pairs] for t in time_s]
    delay_ms = np.array([[state.delay_s * 1e3 if state.up else np.nan for state in row] for row in states])
    told = "a gap is an outage" if len(pairs) <= MOST_LINES else f"{len(pairs)} of {count} links, while they are up"
    names = tuple(f"{a} - {b}" for a, b in pairs)
    return _curves(time_s.tolist(), names, delay_ms, f"One-way link delay (modelled; {told})", "ms") if pairs else None


def figures(folder: Path, metrics: Metrics) -> dict[str, go.Figure]:
    """All plots of a run, by name."""
    journal = open_run(folder)
    try:
        seen = [(decision, watts) for _, decision, watts in decided_by(journal)]
        decisions = [decision for decision, _ in seen]
        kind = timed(journal, "monotonic clocks").kind
        reported = quantities(journal).get("power_w")
        token_rows = columns(tables.tokens(journal))
    finally:
        journal.close()
    limits, nodes = metrics.limits, frozenset(one.node for one in metrics.nodes)
    power = combined(by_provenance(reported).items()).kind if reported else "nothing reported"
    read_w = np.array([watts for _, watts in seen])
    found = {
        "temperature": _bounds(
            _lines(decisions, nodes, "temperature_c", "Temperature in orbit (modelled by the twin)", "C"),
            limits["temperature_soft_c"], limits["temperature_hard_c"],
        ),
        "charge": _bounds(
            _lines(decisions, nodes, "charge", "State of charge (modelled by the twin)", "of capacity"),
            limits["charge_soft"], limits["charge_hard"],
        ),
        "power": _lines(decisions, nodes, read_w, f"Board power ({power})", "W"),
        "rows": _lines(decisions, nodes, "calls_per_s", f"Expert rows a second by host ({kind})", "1/s"),
        "waterfall": _waterfall(metrics, kind),
        "tpot": _tpot(token_rows, kind),
        "experts": _heat_map(metrics, kind),
        "errors": _errors(tuple(one for one in metrics.links if any(one.histogram)), kind),
    }  # fmt: skip
    delays = _delays(folder)
    return found if delays is None else {**found, "delays": delays}
