"""InfluxDB line protocol of a run's tables (docs.influxdata.com, "Line protocol reference", versions 1 and 2).

A line is `measurement,tag=value,... field=value,... timestamp`. Every table is a measurement `hil_<table>`. Node, peer,
name of an event and domain of a request are tags; everything else is a field, so that the number of series stays small.
Points of one measurement with the same tags and time would replace each other: the n-th of them is put n nanoseconds
later. Units and provenance have no place in the protocol: they go into a measurement of their own, `hil_columns`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ground_controller.telemetry.tables import Column, Table

TAGS = frozenset({"node", "peer", "event", "domain"})
"""Columns that become tags."""
_KEY = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ ", "\n": r"\ ", "\r": r"\ "})
_NAME = str.maketrans({",": r"\,", " ": r"\ "})
_TEXT = str.maketrans({'"': r"\"", "\\": "\\\\"})


def lines(table: Table, run: str, epoch_ns: int) -> Iterator[str]:
    """A line for each row that holds a value.

    Args:
        run: tag of every point.
        epoch_ns: Unix nanoseconds at scenario second 0; rows without a time of their own stand there.
    """
    names = [column.name for column in table.columns]
    tags = [i for i, name in enumerate(names) if name in TAGS]
    fields = [i for i in range(len(names)) if i not in tags and names[i] != "scenario_s"]
    when = names.index("scenario_s") if "scenario_s" in names else None
    measurement = f"hil_{table.name}".translate(_NAME)
    seen: dict[tuple[Any, ...], int] = {}
    for row in table.rows():
        at_ns = epoch_ns + (0 if when is None else round(row[when] * 1e9))
        told = [f"{names[i].translate(_KEY)}={text}" for i in fields if (text := _field(row[i], table.columns[i]))]
        if not told:
            continue
        known = [f"{names[i].translate(_KEY)}={_tag(row[i])}" for i in tags if str(row[i])]
        series = tuple(known)
        while (again := seen.get((at_ns, series), 0)) > 0:  # taken: by a row of this instant, or one put there
            seen[at_ns, series] = again + 1
            at_ns += again
        seen[at_ns, series] = 1
        yield f"{measurement},{','.join(sorted([*known, f'run={_tag(run)}']))} {','.join(told)} {at_ns}"


def column_lines(tables: tuple[Table, ...], run: str, epoch_ns: int) -> Iterator[str]:
    """Unit and provenance of every column."""
    for table in tables:
        for column in table.columns:
            tags = f"column={_tag(column.name)},run={_tag(run)},table={_tag(table.name)}"
            told = f"provenance={_quoted(str(column.provenance))},unit={_quoted(column.unit)}"
            yield f"hil_columns,{tags} {told} {epoch_ns}"


def _field(value: Any, column: Column) -> str:
    """A field's value; "" where there is none (the protocol knows neither null nor NaN)."""
    if value is None:
        return ""
    if column.kind == "int":
        return f"{int(value)}i"
    if column.kind == "float":
        return repr(float(value)) if math.isfinite(value) else ""
    if column.kind == "flag":
        return "true" if value else "false"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    return '"' + text.translate(_TEXT).replace("\n", " ").replace("\r", " ") + '"'


def _tag(value: Any) -> str:
    """A backslash at the end of a tag would escape what follows it."""
    return (str(value).rstrip("\\") or "-").translate(_KEY)
