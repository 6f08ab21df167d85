"""The report of a run: one HTML file that works offline, and the same numbers as JSON."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import NamedTuple

import msgspec

from ground_controller.journal import Journal
from ground_controller.report import sections
from ground_controller.report.figures import figures
from ground_controller.report.html_parts import Plots, document, paragraph, table
from ground_controller.report.metrics import Metrics, columns, measure
from ground_controller.run_folder import open_run, write_manifest
from ground_controller.telemetry import tables
from hil_config.durable_file import write_result

MOST_EVENTS = 200
MOST_TEXTS = 8


class Report(NamedTuple):
    """The numbers, and the page that shows them; `report.json` lies beside it."""

    metrics: Metrics
    page: Path


def report_run(folder: Path) -> Report:
    """Measure a run and write `report.html`, `report.json` and `manifest.json` into its folder.

    Each appears whole or not at all.

    Raises:
        InvalidRunError: there is no run, or it never came to a decision.
    """
    metrics = measure(folder)
    write_result(folder / "report.json", (json.dumps(metrics.as_json(), indent=1) + "\n").encode())
    page = folder / "report.html"
    write_result(page, document(f"{metrics.campaign}: {metrics.selection}", _body(folder, metrics)))
    write_manifest(folder)
    return Report(metrics, page)


def _body(folder: Path, m: Metrics) -> str:
    journal = open_run(folder)
    try:
        generations, events = _generations(journal), _events(journal)
    finally:
        journal.close()
    drawn, plots = figures(folder, m), Plots()
    absent = "".join(f"<li>{html.escape(item)}</li>" for item in m.not_measured)
    delays = [drawn["delays"]] if "delays" in drawn else []
    parts = [
        f'<p class="provenance">{html.escape(m.provenance)}</p>',
        f"<h1>{html.escape(m.campaign)}: {html.escape(m.selection)}</h1>", paragraph(f"run {m.run}"),
        "<h2>The answer</h2>", sections.answer(m), sections.requirements(m),
        "<h2>Where a token's time goes</h2>", sections.where_time_goes(m),
        plots.show(drawn["waterfall"], drawn["tpot"]) if m.waterfall_tokens else "",
        "<h2>Energy</h2>", sections.energy(m), plots.show(drawn["power"], drawn["rows"]),
        "<h2>Temperature and charge</h2>", sections.limits(m), plots.show(drawn["temperature"], drawn["charge"]),
        "<h2>Wear</h2>", sections.wear(m),
        "<h2>Experts</h2>", plots.show(drawn["experts"]),
        "<h2>Links</h2>", sections.links(m), plots.show(drawn["errors"], *delays),
        "<h2>Degraded tokens</h2>", sections.degraded(m), sections.evaluation(m),
        "<h2>Generated text</h2>", generations,
        sections.models(m),
        "<h2>Not measured</h2>", f"<ul>{absent}</ul>",
        "<h2>Events</h2>", events,
    ]  # fmt: skip
    return "\n".join(parts)


def _generations(journal: Journal) -> str:
    """One finished generation of each domain."""
    found = columns(tables.requests(journal))
    rows = []
    seen: set[str] = set()
    for domain, prompt, text, ended in zip(
        found["domain"], found["prompt"], found["text"], found["ended"], strict=True
    ):
        if domain in seen or ended not in {"length", "end of text"}:
            continue
        seen.add(domain)
        words = f"{html.escape(prompt)}<b>{html.escape(text)}</b>"
        rows.append(f"<tr><td>{html.escape(domain)}</td><td class=text>{words}</td></tr>")
    head = "<tr><th>domain</th><th>prompt and generated text</th></tr>"
    return f"<table>{head}{''.join(rows[:MOST_TEXTS])}</table>"


def _events(journal: Journal) -> str:
    found = columns(tables.events(journal))
    rows: list[tuple[str, ...]] = [
        (f"{time_s:.1f}", node, event, details)
        for time_s, node, event, details in zip(
            found["scenario_s"], found["node"], found["event"], found["details"], strict=True
        )
        if event != "AttemptBegan" or msgspec.json.decode(details).get("reason")
    ]
    shown = table(rows[:MOST_EVENTS], ("orbit s", "node", "event", "details"))
    more = len(rows) - MOST_EVENTS
    return shown + (paragraph(f"{more} more are in the export.") if more > 0 else "")
