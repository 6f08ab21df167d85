"""Runs side by side as one offline page: what differs in settings and figures, and the trade-offs between them."""

from __future__ import annotations

import html
from pathlib import Path

import plotly.graph_objects as go

from ground_controller.report.accounting import measure_together
from ground_controller.report.colours import COLOURS
from ground_controller.report.compare import Comparison, Line, compare, run_groups, side_names
from ground_controller.report.html_parts import Plots, document, paragraph, styled, table
from ground_controller.report.metrics import Metrics
from ground_controller.report.pareto import TradeOff, trade_offs
from hil_config.durable_file import write_result

VERDICTS = {"lower": COLOURS[0], "higher": COLOURS[1], "not distinguishable": "#888888"}
MARKS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "pentagon")


def write_comparison(base: Path, others: tuple[Path, ...], page: Path) -> list[Comparison]:
    """Compare, and write the page whole or not at all; the comparisons are those of `compare`."""
    found = compare(base, others)
    sides = (base, *others)
    groups = {name: measure_together(run_groups(path)) for name, path in zip(side_names(sides), sides, strict=True)}
    first, *rest = groups
    write_result(page, document(f"{first} and {', '.join(rest)}", _body(found, groups)))
    return found


def _body(found: list[Comparison], groups: dict[str, list[Metrics]]) -> str:
    plots = Plots()
    parts = [_provenance(groups), f"<h1>{len(groups)} sides, {sum(map(len, groups.values()))} runs</h1>"]
    for one in found:
        parts += [f"<h2>{html.escape(one.other)} against {html.escape(one.base)}</h2>", _answer(one)]
        if any(line.statistic == "ratio" and line.estimate is not None for line in one.lines):
            parts.append(plots.show(_intervals(one)))
        parts += [_lines(one), paragraph(one.paired_by), "<h3>Settings that differ</h3>", _settings(one)]
    offs = trade_offs(groups)
    parts.append("<h2>Trade-offs</h2>")
    parts.append(
        paragraph(
            "Less is better on both axes. A line joins the sides that no other beats in both (the Pareto front of their"
            " means); small marks are runs."
        )
        + plots.show(*map(_trade_off, offs))
        if offs
        else paragraph("No two figures are known of every side.")
    )
    return "\n".join(parts)


def _provenance(groups: dict[str, list[Metrics]]) -> str:
    """One line for all runs where they agree, else one for each side."""
    told = {name: sorted({m.provenance for m in runs}) for name, runs in groups.items()}
    lines = sorted({line for every in told.values() for line in every})
    if len(lines) == 1:
        return paragraph(lines[0], "provenance")
    return "".join(paragraph(f"{name}: {line}", "provenance") for name, every in told.items() for line in every)


def _answer(one: Comparison) -> str:
    """What can be told apart, in one sentence."""
    apart = [
        f"{line.metric} is {line.verdict} ({_interval(line)})"
        for line in one.lines
        if line.verdict in {"lower", "higher"}
    ]
    same = [line.metric for line in one.lines if line.verdict == "not distinguishable"]
    silent = [line.metric for line in one.lines if line.verdict == "no answer"]
    parts = []
    if apart:
        parts.append("; ".join(apart) + ".")
    if same:
        parts.append(f"Not distinguishable: {', '.join(same)}.")
    if silent:
        parts.append(f"No answer: {', '.join(silent)}.")
    text = " ".join(parts)
    return paragraph(text[:1].upper() + text[1:], "")


def means(line: Line) -> tuple[str, str]:
    """Of both sides, as text."""
    base, other = ("not known" if value is None else f"{value:.4g}" for value in (line.base, line.other))
    return base, other


def _interval(line: Line) -> str:
    if line.estimate is None or line.low is None or line.high is None:
        return line.note
    if line.statistic == "ratio":
        return f"{line.estimate - 1:+.2%} [{line.low - 1:+.2%}, {line.high - 1:+.2%}]"
    return f"{line.estimate:+.4g} [{line.low:+.4g}, {line.high:+.4g}] {line.unit}"


def _lines(one: Comparison) -> str:
    rows = [
        (
            f"{line.metric}, {line.unit}", *means(line), _interval(line), str(line.pairs),
            line.verdict, line.note if line.estimate is not None else "",
        )
        for line in one.lines
    ]  # fmt: skip
    head = ("metric", one.base, one.other, "change [95 %]", "pairs", "verdict", "")
    return table(rows, head)


def _settings(one: Comparison) -> str:
    if not one.settings:
        return paragraph("None: their settings are the same.", "")
    return table(one.settings, ("setting", one.base, one.other))


def _intervals(one: Comparison) -> go.Figure:
    """Ratios as percent of change, with their intervals; the line at 0 is "no difference"."""
    figure = go.Figure()
    for line in reversed(one.lines):
        if line.statistic != "ratio" or line.estimate is None or line.low is None or line.high is None:
            continue
        change = 100.0 * (line.estimate - 1.0)
        figure.add_scatter(
            x=[change], y=[line.metric], mode="markers", showlegend=False,
            marker={"color": VERDICTS[line.verdict], "size": 9},
            error_x={"type": "data", "symmetric": False, "array": [100.0 * (line.high - line.estimate)],
                     "arrayminus": [100.0 * (line.estimate - line.low)], "color": VERDICTS[line.verdict]},
        )  # fmt: skip
    figure.add_vline(x=0.0, line_dash="dash", line_color="#888888")
    styled(figure, f"{one.other} against {one.base}: change with 95 % intervals", "%", "", 120 + 44 * len(figure.data))
    return figure.update_layout(margin={"l": 190})


def _trade_off(one: TradeOff) -> go.Figure:
    figure = go.Figure()
    order = sorted(one.best, key=lambda name: one.means[name])
    figure.add_scatter(
        x=[one.means[name][0] for name in order], y=[one.means[name][1] for name in order], mode="lines",
        name="not beaten", line={"color": "#888888", "dash": "dot", "shape": "hv"}, showlegend=len(order) > 1,
    )  # fmt: skip
    for i, (name, (x, y)) in enumerate(one.means.items()):
        look = {"color": COLOURS[i % len(COLOURS)], "symbol": MARKS[i % len(MARKS)]}
        runs = [(run, a, b) for group, run, a, b in one.points if group == name]
        if len(runs) > 1:
            figure.add_scatter(
                x=[a for _, a, _ in runs], y=[b for _, _, b in runs], text=[run for run, _, _ in runs], mode="markers",
                marker={**look, "size": 6, "opacity": 0.5}, showlegend=False,
            )  # fmt: skip
        figure.add_scatter(x=[x], y=[y], mode="markers", name=name, marker={**look, "size": 13})
    title = f"{one.x.name} and {one.y.name}"
    axes = (f"{one.x.unit} ({one.kinds[0]})", f"{one.y.unit} ({one.kinds[1]})")
    return styled(figure, title, *axes)
