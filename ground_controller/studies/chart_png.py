"""Charts as PNG (matplotlib, extra `plots`)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ground_controller.report.colours import COLOURS
from ground_controller.studies.chart import Chart, Curve, pareto_front


def chart_png(chart: Chart) -> bytes | None:
    """The picture's bytes; None where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(8.5, 5.2), layout="constrained")
    axes = figure.subplots()
    places = list(dict.fromkeys(x for curve in chart.curves for x in curve.x))
    named = any(isinstance(place, str) for place in places)
    for at, curve in enumerate(chart.curves):
        _draw(axes, chart, curve, at, places if named or chart.kind == "bars" else None)
    if named or chart.kind == "bars":
        long = max(len(str(place)) for place in places) > 9 and len(places) > 4
        axes.set_xticks(range(len(places)), [str(p) for p in places], rotation=35 if long else 0,
                        ha="right" if long else "center", fontsize=8)  # fmt: skip
    if chart.front:
        front = pareto_front([(float(x), y) for c in chart.curves for x, y in zip(c.x, c.y, strict=True)])
        xs, ys = zip(*front, strict=True)
        axes.plot(xs, ys, ":", color="#555", label="Pareto front")
    if chart.limit:
        axes.axhline(chart.limit[0], ls="--", color="#b58900", label=chart.limit[1])
    axes.set_title(chart.title, fontsize=10)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    handles, _ = axes.get_legend_handles_labels()
    named_already = all(curve.labels for curve in chart.curves)
    if named_already:
        axes.margins(x=0.14)
    if len(handles) > 1 and not named_already:
        axes.legend(fontsize=7, ncols=2 if len(handles) > 6 else 1)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def _draw(axes: Any, chart: Chart, curve: Curve, at: int, places: list[float | str] | None) -> None:
    colour, y = COLOURS[at % len(COLOURS)], np.array(curve.y)
    x = np.array([places.index(p) for p in curve.x] if places else curve.x, np.float64)
    error = [y - np.array(curve.low), np.array(curve.high) - y] if curve.low else None
    if chart.kind == "bars":
        width = 0.8 / len(chart.curves)
        axes.bar(x - 0.4 + (at + 0.5) * width, y, width, yerr=error, color=colour, label=curve.name, capsize=2)
        return
    style = "o-" if chart.kind == "lines" else "o"
    axes.errorbar(x, y, yerr=error, fmt=style, color=colour, label=curve.name, capsize=2, markersize=5, lw=1.4)
    for px, py, text in zip(x, y, curve.labels, strict=False):
        axes.annotate(text, (px, py), textcoords="offset points", xytext=(5, 4), fontsize=7)
