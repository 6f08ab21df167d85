"""Precisions in options and answers of precision policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import get_args

from ground_controller.policies.view import View
from hil_config.errors import ConfigError
from hil_config.wire.manifest import Precision

FINEST_FIRST: tuple[Precision, ...] = get_args(Precision)

Table = tuple[tuple[tuple[Precision, ...], ...], ...]


def read_precisions(policy: str, text: str) -> tuple[Precision, ...]:
    """The precisions that an option names, with blanks or commas between them, finest first; ConfigError for others."""
    words = text.replace(",", " ").split()
    wrong = [word for word in words if word not in FINEST_FIRST]
    if wrong or not words:
        raise ConfigError(
            f"policy {policy}: {', '.join(wrong) or 'nothing'} where precisions are wanted",
            f"name some of {', '.join(FINEST_FIRST)}",
        )
    return tuple(p for p in FINEST_FIRST if p in words)


def everywhere(view: View, of: Callable[[int, int, int], Precision]) -> Table:
    """`of(layer, expert, node)` for every holder of every expert."""
    return tuple(
        tuple(tuple(of(layer, expert, node) for node in held) for expert, held in enumerate(row))
        for layer, row in enumerate(view.holders)
    )


def counted(table: Table) -> str:
    """A clause for a reason: how many copies are served at which precision."""
    counts = Counter(p for row in table for held in row for p in held)
    return ", ".join(f"{counts[p]} at {p}" for p in FINEST_FIRST if counts[p])
