"""What pages are made of: one style for light and dark, tables that scroll by themselves, plots that work offline."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go
import plotly.io

STYLE = """
:root{color-scheme:light dark;--ink:#1d2329;--paper:#fff;--soft:#59636e;--line:#d9dee3;--note:#fdf6e3;--mark:#b58900;
--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8ec;--paper:#14181d;--soft:#9aa6b2;--line:#38414b;--note:#2a2615;
--mark:#d5a72a;--bad:#ff8a80}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;max-width:1160px;margin:1.5rem auto;padding:0 1rem;color:var(--ink);
background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.8rem 0 0}h2{font-size:1.15rem;margin:2rem 0 .4rem;border-bottom:1px solid var(--line)}
p{margin:.5rem 0}.soft{color:var(--soft)}summary{cursor:pointer}.bad{color:var(--bad);font-weight:600}
.provenance{background:var(--note);border-left:4px solid var(--mark);padding:.6rem 1rem;margin:0}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;overflow-wrap:normal}
td:first-child,th:first-child{padding-left:0}
td.long{min-width:14rem}
.dense td{white-space:nowrap}
.answer td:nth-child(2){font-weight:600;white-space:nowrap}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,460px),1fr));gap:.5rem}
.plots>div{min-width:0;overflow:hidden}
.text{white-space:pre-wrap;font-family:ui-monospace,monospace;font-size:13px;overflow-wrap:anywhere}
.js-plotly-plot .infolayer text,.js-plotly-plot .cartesianlayer text{fill:var(--ink)!important}
@media (max-width:480px){.js-plotly-plot .gtitle{font-size:9.5px!important}}
.js-plotly-plot .gridlayer path,.js-plotly-plot .zerolinelayer path{stroke:var(--line)!important}
"""


MOST_ROWS = 40
LONG = 40
"""Letters of a cell that is a sentence."""


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = (), kind: str = "") -> str:
    """Text cells as a table in a box of its own that scrolls when it is too wide; `kind` is a class of it.

    Many rows are folded under a line that says how many.
    """
    rows = list(rows)
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    named = f' class="{kind}"' if kind else ""
    shown = f'<div class="scroll"><table{named}>{f"<tr>{top}</tr>" if head else ""}{body}</table></div>'
    return shown if len(rows) <= MOST_ROWS else f"<details><summary>{len(rows)} rows</summary>{shown}</details>"


def _cell(text: str) -> str:
    """A sentence keeps some width where the table is wider than its box."""
    start = '<td class="long">' if len(text) > LONG else "<td>"
    return f"{start}{html.escape(text)}</td>"


def paragraph(text: str, kind: str = "soft") -> str:
    """One of text."""
    return f'<p class="{kind}">{html.escape(text)}</p>'


class Plots:
    """Figures as HTML; the library goes in with the first of a page."""

    def __init__(self) -> None:
        self._first = True

    def show(self, *figures: go.Figure) -> str:
        """Side by side where there is room."""
        parts = []
        for figure in figures:
            parts.append(
                plotly.io.to_html(
                    figure, full_html=False, include_plotlyjs=self._first,
                    config={"displayModeBar": False, "responsive": True},
                )
            )  # fmt: skip
            self._first = False
        return '<div class="plots">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>"


def document(title: str, body: str) -> bytes:
    """A whole page, without anything to fetch."""
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head><body>\n'
        f"{body}\n</body></html>\n"
    ).encode()


def styled(figure: go.Figure, title: str, x: str, y: str, height: int = 320) -> go.Figure:
    """The common look: no background of its own, so that it fits light and dark."""
    figure.update_layout(
        title={"text": title, "font": {"size": 14}}, xaxis_title=x, yaxis_title=y, height=height,
        template="plotly_white", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 20, "t": 48, "b": 48},
        legend={"orientation": "h", "y": -0.25, "bgcolor": "rgba(0,0,0,0)"},
    )  # fmt: skip
    return figure
