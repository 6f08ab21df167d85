"""Hypatia's results of one pair: `networkx_path_*` (when the path changes) and `networkx_rtt_*` (each step)."""

from __future__ import annotations

import re
from typing import NamedTuple

from ground_controller.formats.text import number, refuse

_HINT = "see post_analysis of satgenpy of Hypatia"
_TIME = re.compile(r"\d{1,18}")
_PATH = re.compile(r"\d{1,9}(-\d{1,9})+")


class PathRow(NamedTuple):
    """From this instant on the path is `nodes`, both ends included; empty: unreachable."""

    time_ns: int
    nodes: tuple[int, ...]


class RttRow(NamedTuple):
    """Round-trip time at an instant, ns; 0 while unreachable."""

    time_ns: int
    rtt_ns: float


def _cells(text: str, source: str) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    for line, raw in enumerate(text.splitlines(), start=1):
        if not raw.strip():
            continue
        cells = raw.split(",")
        if len(cells) != 2 or not _TIME.fullmatch(cells[0]):
            refuse(source, line, f"wanted a time in ns and a value; found {raw[:60]!r}", _HINT)
        if found and int(cells[0]) <= found[-1][1]:
            refuse(source, line, f"the time {cells[0]} ns is not after the line before", _HINT)
        found.append((line, int(cells[0]), cells[1]))
    return found


def parse_paths(text: str, source: str) -> tuple[PathRow, ...]:
    """Rows of a path file. Raises DataFileError with file and line."""
    rows = []
    for line, time_ns, cell in _cells(text, source):
        if cell != "Unreachable" and not _PATH.fullmatch(cell):
            refuse(source, line, f"wanted nodes joined by - or Unreachable; found {cell[:60]!r}", _HINT)
        rows.append(PathRow(time_ns, () if cell == "Unreachable" else tuple(int(node) for node in cell.split("-"))))
    return tuple(rows)


def parse_rtts(text: str, source: str) -> tuple[RttRow, ...]:
    """Rows of an RTT file. Raises DataFileError with file and line."""
    rows = []
    for line, time_ns, cell in _cells(text, source):
        value = number(cell, "the round-trip time", source, line, _HINT)
        if value < 0.0:
            refuse(source, line, f"a round-trip time is below 0; found {cell[:40]!r}", _HINT)
        rows.append(RttRow(time_ns, value))
    return tuple(rows)


def write_paths(rows: tuple[PathRow, ...]) -> str:
    """The text of a path file."""
    return "".join(
        f"{row.time_ns},{'-'.join(str(node) for node in row.nodes) if row.nodes else 'Unreachable'}\n" for row in rows
    )


def write_rtts(rows: tuple[RttRow, ...]) -> str:
    """The text of an RTT file, with the ten decimals that Hypatia writes."""
    return "".join(f"{row.time_ns},{row.rtt_ns:.10f}\n" for row in rows)
