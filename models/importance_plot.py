"""What calibration found, as one HTML page that needs no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hil_config.durable_file import write_result
from hil_config.wire.importance import Importance


def _grid(values: object) -> list[list[float]]:
    """Layers from top to bottom, as lists: a page of numbers that any reader can take out again."""
    return [[float(v) for v in row] for row in np.asarray(values, dtype=np.float64)]


def heat_map(found: Importance) -> go.Figure:
    """Activation by domain: one row a layer and domain, divided by the mean, so that 1 is no preference."""
    layers, experts = len(found.activation), len(found.activation[0])
    rows, labels = [], []
    for layer in range(layers):
        for index, domain in enumerate(found.domains):
            row = np.array(found.activation_by_domain[index][layer])
            rows.append((row / row.mean()).tolist())
            labels.append(f"{layer} {domain}")
    figure = go.Figure(
        go.Heatmap(
            z=rows, y=labels, x=[str(e) for e in range(experts)], colorscale="RdBu", reversescale=True, zmid=1,
            colorbar={"title": "activation / mean"},
        )
    )  # fmt: skip
    bits = ", ".join(f"{value:.2f}" for value in found.mutual_information)
    figure.update_layout(
        title=f"{found.model}: which experts each domain's tokens pick<br><sub>mutual information of domain and "
        f"expert by layer: {bits} bits of at most {np.log2(len(found.domains)):.2f}</sub>",
        xaxis_title="expert", yaxis={"autorange": "reversed", "title": "layer and domain"},
        height=160 + 18 * len(rows), width=900, template="plotly_white",
    )  # fmt: skip
    return figure


def tables(found: Importance) -> go.Figure:
    """Contribution, loss without the expert and substitution error, one map each."""
    parts = (
        ("mean ||w y||", found.contribution),
        ("rise without it, nats a token", found.drop_nats),
        ("error of its best substitute, relative", found.substitute_error),
    )
    figure = make_subplots(rows=len(parts), cols=1, subplot_titles=[name for name, _ in parts], vertical_spacing=0.1)
    for row, (name, values) in enumerate(parts, 1):
        bar = {"len": 0.28, "y": 1 - (row - 0.5) / len(parts), "title": {"text": ""}}
        trace = go.Heatmap(z=_grid(values), colorscale="Viridis", colorbar=bar, name=name)
        figure.add_trace(trace, row=row, col=1)
        figure.update_yaxes(title="layer", autorange="reversed", dtick=1, row=row, col=1)
    figure.update_xaxes(title="expert", row=len(parts), col=1)
    figure.update_layout(height=760, width=900, template="plotly_white")
    return figure


def write_page(found: Importance, path: Path) -> None:
    """Both figures in one self-contained page."""
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=index == 0)
        for index, figure in enumerate((heat_map(found), tables(found)))
    ]
    page = (
        f"<!doctype html><meta charset='utf-8'><title>{found.model}: importance of its experts</title>"
        f"<body style='font-family:sans-serif'>{''.join(parts)}"
    )
    write_result(path, page.encode())
