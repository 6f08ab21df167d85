"""A sweep in its folder: finished cells are skipped, failed ones recorded, the table written from what there is.

`cells/KEY.json` is a cell's result, written as soon as it is known; `sweep.parquet` is derived from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ground_controller.run_lock import RunLock
from ground_controller.sweep.cells import SweepCell
from ground_controller.sweep.execute import CellResult
from ground_controller.sweep.table import parquet_of, table_of
from hil_config.durable_file import write_durably
from hil_config.errors import EnvironmentFault

TABLE = "sweep.parquet"
Run = Callable[[Sequence[SweepCell]], Iterator[CellResult]]
Show = Callable[[int, int, str], None]


class SweepOutcome(NamedTuple):
    """`results` in the order of the cells; `skipped`: finished before."""

    table: Path
    cells: tuple[SweepCell, ...]
    results: tuple[CellResult, ...]
    skipped: int

    @property
    def failed(self) -> list[tuple[SweepCell, CellResult]]:
        found = zip(self.cells, self.results, strict=True)
        return [(cell, result) for cell, result in found if result.error]


def run_sweep(folder: Path, cells: Sequence[SweepCell], run: Run, show: Show) -> SweepOutcome:
    """Run what is not finished. Failed cells of an earlier call run again.

    Whatever breaks this off, the results that were there by then are kept, and in the table.
    """
    home = folder / "cells"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{home}: {error.strerror}", "choose another --out") from error
    lock = RunLock(folder)
    results = {cell.key: found for cell in cells if (found := _read(home, cell.key)) is not None}
    skipped = len(results)
    try:
        missing = [cell for cell in cells if cell.key not in results]
        show(skipped, len(cells), f"{skipped} finished before" if skipped else "")
        for result in run(missing) if missing else ():
            write_durably(home / f"{result.key}.json", msgspec.json.encode(result) + b"\n")
            results[result.key] = result
            show(len(results), len(cells), "a cell failed" if result.error else "")
    finally:
        known = [cell for cell in cells if cell.key in results]
        if known:
            write_durably(folder / TABLE, parquet_of(table_of(known, list(results.values()))))
        lock.release()
    return SweepOutcome(folder / TABLE, tuple(cells), tuple(results[cell.key] for cell in cells), skipped)


def _read(home: Path, key: str) -> CellResult | None:
    """A finished cell's result; None where there is none, it failed, or the file is damaged."""
    try:
        found = msgspec.json.decode((home / f"{key}.json").read_bytes(), type=CellResult)
    except (OSError, ValueError):
        return None
    return found if found.key == key and not found.error else None
