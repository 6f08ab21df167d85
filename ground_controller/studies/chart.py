"""What a study shows, as data: drawn as an offline HTML page and as PNG from the same description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Place = float | str


@dataclass(frozen=True)
class Curve:
    """Points (x, y) with intervals [low, high] where known. `labels`: a text at each point."""

    name: str
    x: tuple[Place, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """`title` says whether the values are modelled or measured; `name` is the PNG's file name.

    `front`: draw the lower left Pareto front through the points.
    """

    name: str
    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    kind: Literal["lines", "bars", "points"] = "lines"
    log_x: bool = False
    log_y: bool = False
    front: bool = False
    limit: tuple[float, str] | None = None
    """A level worth a dashed line, and its name."""


@dataclass(frozen=True)
class Table:
    """Rows of text under their headings."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Study:
    """A finished study. `provenance` is its first line; `numbers` are everything shown, for machines."""

    name: str
    title: str
    provenance: str
    command: str
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    text: tuple[str, ...]
    numbers: Mapping[str, Any]


def pareto_front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other is at least as low as in both coordinates (and lower in one), by rising x."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points)):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return front
