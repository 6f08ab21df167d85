"""A schedule as one HTML page that works offline: tracks, contacts, delay, rate, eclipses."""

from __future__ import annotations

import html

import numpy as np
import plotly.graph_objects as go
import plotly.io

from ground_controller.orbit.picture import Picture, contacts_of, picture_of, wrapped
from ground_controller.report.colours import COLOURS
from hil_config.wire.link_schedule import LinkSchedule

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2rem auto;padding:0 1rem;color:#222;
overflow-wrap:anywhere}
.provenance{background:#fdf6e3;border-left:4px solid #b58900;padding:.6rem 1rem}
"""
MOST_CURVES = 40


def _figure(title: str, x: str, y: str, height: int) -> go.Figure:
    return go.Figure(
        layout={
            "title": title, "xaxis_title": x, "yaxis_title": y, "height": height, "template": "plotly_white",
            "margin": {"l": 70, "r": 20, "t": 48, "b": 48},
        }
    )  # fmt: skip


def _tracks(picture: Picture) -> go.Figure:
    title = "Ground tracks (a dot is the start; a dark rim where the Earth hides the Sun)"
    figure = _figure(title, "longitude, degrees", "latitude, degrees", 520)
    for i, name in enumerate(picture.names[:MOST_CURVES]):
        colour = COLOURS[i % len(COLOURS)]
        x, y = wrapped(picture.latitude_deg[:, i], picture.longitude_deg[:, i])
        dark = picture.sunlight[:, i] <= 0.0
        figure.add_scatter(
            x=picture.longitude_deg[dark, i].round(3).tolist(), y=picture.latitude_deg[dark, i].round(3).tolist(),
            mode="markers", marker={"color": "#333", "size": 7}, showlegend=False, legendgroup=name, hoverinfo="skip",
        )  # fmt: skip
        figure.add_scatter(x=x, y=y, name=name, mode="lines", line={"color": colour}, legendgroup=name)
        figure.add_scatter(
            x=[x[0]], y=[y[0]], mode="markers", marker={"color": colour, "size": 10}, showlegend=False,
            legendgroup=name, hovertext=f"{name} at 0 s",
        )  # fmt: skip
    figure.update_xaxes(range=[-180, 180], dtick=30)
    return figure.update_yaxes(range=[-90, 90], dtick=30)


def _gantt(schedule: LinkSchedule, picture: Picture) -> go.Figure:
    labels = [f"{a} - {b}" for a, b in picture.links]
    figure = _figure("Contacts: when a pair has a path", "scenario, s", "", 120 + 22 * len(labels))
    contacts = contacts_of(schedule)
    figure.add_bar(
        base=[c.start_s for c in contacts], x=[c.end_s - c.start_s for c in contacts],
        y=[f"{c.pair[0]} - {c.pair[1]}" for c in contacts],
        orientation="h", marker_color="#1f77b4", showlegend=False,
        hovertext=[f"{c.start_s:g} to {c.end_s:g} s" for c in contacts],
    )  # fmt: skip
    figure.update_yaxes(categoryorder="array", categoryarray=labels[::-1], automargin=True)
    return figure.update_xaxes(range=[0.0, schedule.duration_s])


def _curves(picture: Picture, values: np.ndarray, title: str, unit: str) -> go.Figure:
    figure = _figure(title, "scenario, s", unit, 380)
    time_s = picture.time_s.round(3).tolist()
    for i, (pair, column) in enumerate(zip(picture.links[:MOST_CURVES], picture.columns, strict=False)):
        shown = [
            round(v, 4) if up else None
            for v, up in zip(values[:, column].tolist(), picture.samples.up[:, column].tolist(), strict=True)
        ]
        figure.add_scatter(x=time_s, y=shown, name=" - ".join(pair), line={"color": COLOURS[i % len(COLOURS)]})
    return figure


def _bands(picture: Picture) -> go.Figure:
    figure = _figure(
        "Sunlight: share of the Sun's disc (black is umbra)", "scenario, s", "", 140 + 24 * len(picture.names)
    )
    figure.add_heatmap(
        x=picture.time_s.round(3).tolist(), y=list(picture.names), z=picture.sunlight.T.round(4).tolist(),
        colorscale=[[0.0, "#111"], [0.001, "#666"], [0.999, "#ddb"], [1.0, "#ffe680"]], zmin=0.0, zmax=1.0,
    )  # fmt: skip
    return figure.update_yaxes(autorange="reversed", automargin=True)


def schedule_page(schedule: LinkSchedule, name: str, sha256: str) -> str:
    """The page's text."""
    picture, head = picture_of(schedule), schedule.header
    figures = [_tracks(picture)] if picture.latitude_deg.size else []
    figures += [
        _gantt(schedule, picture),
        _curves(picture, picture.samples.delay_s * 1e3, "One-way delay, end to end (a gap is an outage)", "ms"),
        _curves(picture, picture.samples.rate_bit_s / 1e6, "Rate", "Mbit/s").update_yaxes(rangemode="tozero"),
        _curves(picture, picture.samples.hops.astype(np.float64), "Hops", ""),
        _bands(picture),
    ]
    parts = [
        plotly.io.to_html(figure, full_html=False, include_plotlyjs=n == 0, config={"displayModeBar": False})
        for n, figure in enumerate(figures)
    ]
    told = (
        f"{head.kind} schedule, modelled from {html.escape(head.source or 'unknown elements')}; begins "
        f"{html.escape(head.epoch_utc)}, lasts {head.duration_s:g} s, {len(schedule.arrays.links)} changes, "
        f"delay within {head.delay_tolerance_s * 1e6:g} us. SHA-256 {sha256}"
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{html.escape(name)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(name)}</h1><p class=provenance>{told}</p>{''.join(parts)}</html>"
    )
