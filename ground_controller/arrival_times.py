"""When requests arrive by themselves: a Poisson process, or a recorded trace. Host seconds since the first tick."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hil_config.errors import DataFileError

HINT = "wanted CSV with a head line: at_s, and if you like prompt_tokens and output_tokens"
MOST_UNDER_WAY = 256
"""Beyond it a request is turned away, and recorded so: a bench that is asked too much must not fill memory."""
COLUMNS = ("at_s", "prompt_tokens", "output_tokens")


class Due(NamedTuple):
    """One arrival. Lengths in tokens; None: as the workload says."""

    at_s: float
    prompt_tokens: int | None = None
    output_tokens: int | None = None


def poisson(rate_per_s: float, seed: int) -> Iterator[Due]:
    """Endless arrivals with independent exponential gaps of mean 1 / rate."""
    drawn = np.random.default_rng([seed, 0x9E3779B9])
    at_s = 0.0
    while True:
        at_s += float(drawn.exponential(1.0 / rate_per_s))
        yield Due(at_s)


def read_trace(path: Path) -> tuple[Due, ...]:
    """Arrivals of a CSV file, in the order of their times.

    Raises:
        DataFileError: with file and line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            unknown = [name for name in rows.fieldnames or () if name not in COLUMNS]
            if "at_s" not in (rows.fieldnames or ()) or unknown:
                raise DataFileError(f"{path}:1: columns {', '.join(rows.fieldnames or ()) or 'missing'}", HINT)
            found = [_due(row, f"{path}:{rows.line_num}") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path}: cannot be read: {error}", HINT) from error
    for before, after in itertools.pairwise(found):
        if after.at_s < before.at_s:
            raise DataFileError(f"{path}: at_s {after.at_s:g} comes after {before.at_s:g}", "sort the rows by at_s")
    if not found:
        raise DataFileError(f"{path}: no arrivals", HINT)
    return tuple(found)


def _due(row: dict[str, str | None], where: str) -> Due:
    try:
        at_s = float(row["at_s"] or "")
        lengths = [int(row[name] or 0) if row.get(name) else None for name in COLUMNS[1:]]
    except (ValueError, TypeError) as error:
        raise DataFileError(f"{where}: {error}", HINT) from error
    if not 0.0 <= at_s < float("inf") or any(one is not None and one < 1 for one in lengths):
        raise DataFileError(f"{where}: found {dict(row)}, wanted at_s of 0 or more and lengths of 1 or more", HINT)
    return Due(at_s, *lengths)
