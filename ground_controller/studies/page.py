"""A study on disk: one HTML page that works offline, a PNG of each chart, and the numbers as JSON."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import plotly.io

from ground_controller.studies.chart import Study, Table
from ground_controller.studies.chart_html import figure_of
from ground_controller.studies.chart_png import chart_png
from hil_config.durable_file import write_result

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#222}
.provenance{background:#fdf6e3;border-left:4px solid #b58900;padding:.6rem 1rem}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
table{font-size:14px;display:block;overflow-x:auto}
td,th{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
code{background:#f4f4f4;padding:.1rem .3rem}
"""


def write_study(folder: Path, study: Study) -> Path:
    """Write `study.html`, `study.json` and the PNGs into `folder`; each file appears whole or not at all."""
    plots = []
    for at, chart in enumerate(study.charts):
        plots.append(plotly.io.to_html(
            figure_of(chart), full_html=False, include_plotlyjs=at == 0,
            config={"displaylogo": False, "responsive": True},
        ))  # fmt: skip
        picture = chart_png(chart)
        if picture is not None:
            write_result(folder / f"{chart.name}.png", picture)
    text = "".join(f"<p>{html.escape(line)}</p>" for line in study.text)
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(study.title)}</title>
<style>{_STYLE}</style></head><body>
<p class="provenance">{html.escape(study.provenance)}</p>
<h1>{html.escape(study.title)}</h1><p><code>{html.escape(study.command)}</code></p>
{"".join(_table(table) for table in study.tables)}
{"".join(plots)}
<h2>What this shows, and what it does not</h2>{text}
</body></html>
"""
    write_result(folder / "study.json", (json.dumps(as_json(study), indent=1) + "\n").encode())
    write_result(folder / "study.html", page.encode())
    return folder / "study.html"


def as_json(study: Study) -> dict[str, Any]:
    """Everything but the charts."""
    return {
        "study": study.name, "title": study.title, "provenance": study.provenance, "command": study.command,
        "text": list(study.text), **study.numbers,
    }  # fmt: skip


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in table.rows)
    return f"<h3>{html.escape(table.title)}</h3><table><tr>{head}</tr>{body}</table>"
