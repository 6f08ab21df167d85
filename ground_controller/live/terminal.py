"""A moment of a run as a table for the terminal."""

from __future__ import annotations

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
QUIET_TICKS = 20
WIDE = 110
_WIDE_ONLY = frozenset({"satellite", "calls/s"})
_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("", "left"), ("node", "left"), ("satellite", "left"), ("state", "left"), ("power", "right"), ("C", "right"),
    ("charge", "right"), ("sun", "right"), ("calls/s", "right"),
)  # fmt: skip


def screen(facts: RunFacts, moment: Moment | None, quiet_s: float, width: int, height: int) -> RenderableType:
    """At most `height` lines, where nodes and events allow it. `quiet_s`: since the last record."""
    if moment is None:
        return Group(Line(f"{facts.run}: waits for its first tick", "bold"))
    sources, plan = _sources(facts, moment), f"plan: {moment.plan_reason}"
    free = height - 5 - len(sources) - len(plan) // width
    shown = max(1, min(len(moment.nodes), free - LEAST_EVENTS))
    told = list(moment.events)[-max(LEAST_EVENTS, free - shown) :]
    table = _nodes(moment, shown, width)
    return Group(*_head(facts, moment, quiet_s), Line(plan), table, *sources, *(_event(one) for one in reversed(told)))


def standing(facts: RunFacts, at_end: bool, quiet_s: float) -> str:
    """Whether a run goes on, as far as its record tells."""
    if at_end:
        return "ended"
    if quiet_s > QUIET_TICKS * facts.tick_s:
        return f"no end on record, and silent for {quiet_s:.0f} s: its controller may have died"
    return "goes on"


def _head(facts: RunFacts, moment: Moment, quiet_s: float) -> list[RenderableType]:
    tick = moment.tick
    simulated = ", simulated" if facts.simulated else ""
    state = standing(facts, moment.at_end, quiet_s)
    return [
        Line(f"{facts.run}: {facts.campaign}, {moment.plan_policy}{simulated}, {state}", "bold"),
        Line(
            f"orbit {tick.scenario_s:.0f} of {facts.duration_s:.0f} s at {facts.rate:g} x, host {tick.host_s:.1f} s; "
            f"{moment.token_count} tokens, {moment.tokens_per_s:.1f} a second now; {len(moment.links)} links up"
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
        "-" if row.power_w is None else f"{row.power_w:.2f} W {kind}", _number(row.temperature_c, ".1f"),
        _number(row.charge, ".1%"), _number(row.sunlit, ".0%"), _number(row.calls_per_s, ".0f"), row.cause,
    )  # fmt: skip


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


def _event(event: Event) -> Line:
    mark, style = _WEIGHTS[event.weight]
    cause = f": {event.cause}" if event.cause else ""
    node = f"{event.node} " if event.node else ""
    return Line(
        f"{mark} {event.scenario_s:7.1f} s  {node}{event.what}{cause}", style, no_wrap=True, overflow="ellipsis"
    )
