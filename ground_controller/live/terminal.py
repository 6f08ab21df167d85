"""A moment of a run as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Literal

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text as Line

from ground_controller.live.events import Event
from ground_controller.live.follower import Moment
from ground_controller.live.nodes import NodeRow
from ground_controller.live.run_facts import RunFacts

MARKS = {"waiting": "…", "serving": "●", "no new work": "◐", "out of service": "○", "dead": "✗"}
"""A state is told by its word and mark; its colour only repeats them."""
_STYLES = {
    "waiting": "dim", "serving": "", "no new work": "yellow", "out of service": "bold yellow", "dead": "bold red",
}  # fmt: skip
_WORST_FIRST = ("dead", "out of service", "no new work", "waiting", "serving")
_WEIGHTS = {"bad": ("!", "bold red"), "notice": ("*", "yellow"), "info": (" ", "")}
LEAST_EVENTS = 3
"""Lines for events, at least."""
LEAST_SPAN = 20
QUIET_TICKS = 20
GOES_ON, PAUSED = "goes on", "paused"
WIDE = 110
_WIDE_ONLY = frozenset({"satellite", "calls/s"})
_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("", "left"), ("node", "left"), ("satellite", "left"), ("state", "left"), ("power", "right"), ("C", "right"),
    ("charge", "right"), ("sun", "right"), ("calls/s", "right"),
)  # fmt: skip


def screen(
    facts: RunFacts, moment: Moment | None, quiet_s: float, rate: float, width: int, height: int
) -> RenderableType:
    """At most `height` lines, where nodes and events allow it. `quiet_s`: since the last record. `rate`: as `standing`
    has it."""
    if moment is None:
        return Group(Line(f"{facts.run}: waits for its first tick", "bold"))
    head, sources = [*_head(facts, moment, quiet_s, rate), Line(f"plan: {moment.plan_reason}")], _sources(facts, moment)
    free = height - 1 - len(sources) - sum(len(wrap(line.plain, width)) for line in head)  # 1: the table's headings
    shown = len(moment.nodes)
    if shown > free - LEAST_EVENTS:
        shown = max(1, free - LEAST_EVENTS - 1)
        free -= 1  # the line that tells how many more there are
    events = _events(moment.events, width, max(LEAST_EVENTS, free - shown))
    return Group(*head, _nodes(moment, shown, width), *sources, *events)


def standing(facts: RunFacts, at_end: bool, quiet_s: float, rate: float) -> str:
    """Whether a run goes on, as far as its record tells. `rate`: orbit seconds a host second now."""
    if at_end:
        return "ended"
    if quiet_s > QUIET_TICKS * facts.tick_s:
        return f"no end on record, and silent for {quiet_s:.0f} s: its controller may have died"
    return GOES_ON if rate else PAUSED


def _head(facts: RunFacts, moment: Moment, quiet_s: float, rate: float) -> list[Line]:
    tick = moment.tick
    simulated = ", simulated" if facts.simulated else ""
    state = standing(facts, moment.at_end, quiet_s, rate)
    when = "now" if state in (GOES_ON, PAUSED) else "at its last tick"
    return [
        Line(f"{facts.run}: {facts.campaign}, {moment.plan_policy}{simulated}, {state}", "bold"),
        Line(
            f"orbit {tick.scenario_s:.0f} of {facts.duration_s:.0f} s at {facts.rate:g} x, host {tick.host_s:.1f} s; "
            f"{moment.token_count} tokens, {moment.tokens_per_s:.1f} a second {when}; {len(moment.links)} links up"
        ),
    ]


def _nodes(moment: Moment, shown: int, width: int) -> Table:
    ordered = sorted(moment.nodes, key=lambda row: _WORST_FIRST.index(row.state))
    left = {row.node for row in ordered[:shown]}
    rows = [(_cells(row), _STYLES[row.state]) for row in moment.nodes if row.node in left]
    table = Table(box=None, padding=(0, 2, 0, 0), width=width)
    wide = width >= WIDE
    for n, (heading, justify) in enumerate(_COLUMNS):
        least = max(len(heading), *(len(cells[n]) for cells, _ in rows))
        if wide or heading not in _WIDE_ONLY:
            table.add_column(heading, justify=justify, no_wrap=True, min_width=least)
    table.add_column("why", overflow="ellipsis", no_wrap=True, ratio=1)
    for cells, style in rows:
        kept = [cell for (heading, _), cell in zip(_COLUMNS, cells, strict=False) if wide or heading not in _WIDE_ONLY]
        table.add_row(*(escape(cell) for cell in (*kept, cells[-1])), style=style)
    if len(left) < len(moment.nodes):
        table.add_row("", f"{len(moment.nodes) - len(left)} more")
    return table


def _cells(row: NodeRow) -> tuple[str, ...]:
    """One a column, and the cause."""
    kind = row.power_by.partition("(")[0]
    return (
        MARKS[row.state], row.node, row.satellite, row.state,
        _since(row.last_read_s) if row.power_w is None else f"{row.power_w:.2f} W {kind}",
        _number(row.temperature_c, ".1f"),
        _number(row.charge, ".1%"), _number(row.sunlit, ".0%"), _number(row.calls_per_s, ".0f"), row.cause,
    )  # fmt: skip


def _since(last_read_s: float | None) -> str:
    return "-" if last_read_s is None else f"- since {last_read_s:.0f} s"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _sources(facts: RunFacts, moment: Moment) -> list[Line]:
    """Where the numbers above are from."""
    groups: dict[str, list[str]] = {}
    for row in moment.nodes:
        if row.power_by:
            groups.setdefault(row.power_by, []).append(row.node)
    lines = [f"{what}: {source}" for what, source in facts.sources.items()]
    for source, nodes in groups.items():
        of = "" if len(groups) == 1 else f" of {', '.join(nodes[:4])}{' ...' if len(nodes) > 4 else ''}"
        lines.append(f"power{of}: {source}")
    return [Line(line, "dim", no_wrap=True, overflow="ellipsis") for line in lines]


def _events(events: Sequence[Event], width: int, most: int) -> list[Line]:
    """The newest first, as many as `most` lines hold."""
    lines: list[Line] = []
    for event in reversed(events):
        told = _event(event, width, most - len(lines), must=not lines)
        if not told:
            break
        lines += told
    return lines


def _event(event: Event, width: int, most: int, must: bool) -> list[Line]:
    """On at most `most` lines. Where that is not enough, what happened is shortened and the cause is kept; where the
    cause alone is too long there are none, or if it `must` be, it is cut."""
    mark, style = _WEIGHTS[event.weight]
    lead = f"{mark} {event.scenario_s:7.1f} s  "
    cause = f": {event.cause}" if event.cause else ""
    what = [*([event.node] if event.node else []), *event.what.split(" ")]
    told, kept = _wrapped(lead, " ".join(what) + cause, width), len(what)
    while len(told) > most and kept > 1:
        kept -= 1
        told = _wrapped(lead, " ".join([*what[:kept], "…"]) + cause, width)
    if len(told) > most:
        if not must:
            return []
        told = [*told[: most - 1], told[most - 1][: width - 1] + "…"]
    return [Line(line, style, no_wrap=True) for line in told]


def _wrapped(lead: str, text: str, width: int) -> list[str]:
    """`text` behind `lead`, further lines under its beginning. Names with hyphens stay whole."""
    span = max(LEAST_SPAN, width - len(lead))
    parts = wrap(text, span, break_on_hyphens=False) or [""]
    return [lead + parts[0], *(" " * len(lead) + part for part in parts[1:])]
