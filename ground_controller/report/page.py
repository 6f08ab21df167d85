"""The report page: one HTML file that works offline, and the same numbers as JSON."""

from __future__ import annotations

import html
import json
from pathlib import Path

import msgspec
import plotly.io

from ground_controller.journal import Journal
from ground_controller.report.evaluation import HEADINGS, evaluation_rows
from ground_controller.report.figures import figures
from ground_controller.report.metrics import Metrics, columns
from ground_controller.report.terminal import NODE_HEADINGS, node_rows, summary_rows
from ground_controller.telemetry import tables
from hil_config.durable_file import write_durably

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222}
.provenance{background:#fdf6e3;border-left:4px solid #b58900;padding:.6rem 1rem}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(440px,1fr));gap:.5rem}
.plots>div{min-width:0;overflow:hidden}
.text{white-space:pre-wrap;font-family:ui-monospace,monospace;font-size:13px}
"""


def _rows(rows: list[tuple[str, ...]], head: tuple[str, ...] = ()) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{top}</tr>' if head else ''}{body}</table>"


def _generations(journal: Journal, most: int = 8) -> str:
    table = columns(tables.requests(journal))
    rows = []
    seen: set[str] = set()
    for domain, prompt, text, ended in zip(
        table["domain"], table["prompt"], table["text"], table["ended"], strict=True
    ):
        if domain in seen or ended not in {"length", "end of text"}:
            continue
        seen.add(domain)
        words = f"{html.escape(prompt)}<b>{html.escape(text)}</b>"
        rows.append(f"<tr><td>{html.escape(domain)}</td><td class=text>{words}</td></tr>")
    return f"<table><tr><th>domain</th><th>prompt and generated text</th></tr>{''.join(rows[:most])}</table>"


def _events(journal: Journal) -> str:
    table = columns(tables.events(journal))
    rows: list[tuple[str, ...]] = [
        (f"{time_s:.1f}", node, event, details)
        for time_s, node, event, details in zip(
            table["scenario_s"], table["node"], table["event"], table["details"], strict=True
        )
        if event != "AttemptBegan" or msgspec.json.decode(details)["reason"]
    ]
    shown = _rows(rows[:200], ("orbit s", "node", "event", "details"))
    return shown + (f"<p>{len(rows) - 200} more are in the export.</p>" if len(rows) > 200 else "")


def _evaluation(metrics: Metrics) -> str:
    """Perplexity and cloze accuracy by domain beside the yardstick's; empty when none was asked for."""
    found = metrics.evaluation
    if found is None:
        return ""
    rows = evaluation_rows(found)
    note = f"<p>{html.escape(found.note)}"
    if found.degraded_items:
        note += f"; {found.degraded_items} items were served with experts rerouted or lost"
    return f"<h2>Evaluation</h2>{_rows(rows, HEADINGS) if rows else ''}{note}</p>"


def write_report(folder: Path, metrics: Metrics) -> Path:
    """Write `report.html` and `report.json` into the run folder; each appears whole or not at all."""
    plots = []
    for i, figure in enumerate(figures(folder, metrics)):
        plots.append(
            plotly.io.to_html(
                figure, full_html=False, include_plotlyjs=i == 0, config={"displaylogo": False, "responsive": True}
            )
        )
    journal = Journal.read(folder)
    try:
        generations, events = _generations(journal), _events(journal)
    finally:
        journal.close()
    title = html.escape(f"{metrics.campaign}: {metrics.selection}")
    absent = "".join(f"<li>{html.escape(item)}</li>" for item in metrics.not_measured)
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>{_STYLE}</style></head><body>
<p class="provenance">{html.escape(metrics.provenance)}</p>
<h1>{title}</h1><p>run {html.escape(metrics.run)}</p>
{_rows([*summary_rows(metrics)])}
{_rows(node_rows(metrics), NODE_HEADINGS)}
{_evaluation(metrics)}
<div class="plots">{"".join(f"<div>{plot}</div>" for plot in plots)}</div>
<h2>Generated text</h2>{generations}
<h2>Not measured</h2><ul>{absent}</ul>
<h2>Events</h2>{events}
</body></html>
"""
    write_durably(folder / "report.json", (json.dumps(metrics.as_json(), indent=1) + "\n").encode())
    write_durably(folder / "report.html", page.encode())
    return folder / "report.html"
