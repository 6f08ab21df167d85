"""Charts as plotly figures, for pages that work offline."""

from __future__ import annotations

import plotly.graph_objects as go

from ground_controller.report.colours import COLOURS
from ground_controller.studies.chart import Chart, Curve, pareto_front

HEIGHT = 440


def figure_of(chart: Chart) -> go.Figure:
    """One figure."""
    figure = go.Figure()
    for at, curve in enumerate(chart.curves):
        colour = COLOURS[at % len(COLOURS)]
        if chart.kind == "bars":
            figure.add_bar(x=curve.x, y=curve.y, name=curve.name, marker_color=colour, error_y=_error(curve))
            continue
        mode = "lines+markers" if chart.kind == "lines" else "markers+text" if curve.labels else "markers"
        figure.add_scatter(
            x=curve.x, y=curve.y, name=curve.name, mode=mode, error_y=_error(curve), text=curve.labels or None,
            textposition="top center", marker={"color": colour, "size": 7}, line={"color": colour},
        )  # fmt: skip
    if chart.front:
        points = [(float(x), y) for curve in chart.curves for x, y in zip(curve.x, curve.y, strict=True)]
        xs, ys = zip(*pareto_front(points), strict=True)
        figure.add_scatter(x=xs, y=ys, name="Pareto front", mode="lines", line={"dash": "dot", "color": "#555"})
    if chart.limit:
        figure.add_hline(y=chart.limit[0], line_dash="dash", line_color="#b58900", annotation_text=chart.limit[1])
    figure.update_layout(
        title=chart.title, xaxis_title=chart.x, yaxis_title=chart.y, height=HEIGHT, template="plotly_white",
        margin={"l": 60, "r": 20, "t": 48, "b": 48}, legend={"orientation": "h", "y": -0.25}, barmode="group",
        modebar={"orientation": "v"},
    )  # fmt: skip
    if chart.log_x:
        figure.update_xaxes(type="log")
    if chart.log_y:
        figure.update_yaxes(type="log")
    return figure


def _error(curve: Curve) -> dict[str, object] | None:
    if not curve.low:
        return None
    up = [high - y for high, y in zip(curve.high, curve.y, strict=True)]
    down = [y - low for low, y in zip(curve.low, curve.y, strict=True)]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1}
