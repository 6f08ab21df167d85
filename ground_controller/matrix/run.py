"""Run a matrix: cell after cell, each a run folder of its own; what is finished is never run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from ground_controller.journal import NAME as JOURNAL
from ground_controller.journal import Journal
from ground_controller.matrix.order import Cell, block, next_seed
from ground_controller.matrix.plan import Plan, write_plan
from ground_controller.matrix.summary import Summary, key_of, summarise, write_summary
from ground_controller.preparation import Prepared, prepare
from ground_controller.report.metrics import Metrics
from ground_controller.report.page import report_run
from ground_controller.run_lock import RunLock
from hil_config.errors import HilError, InvalidRunError

Show = Callable[[float, float, str], None]
Execute = Callable[[Prepared, Path, Callable[[float], None]], None]
"""Runs one campaign into a new folder; tells what share of it is done."""


class Outcome(NamedTuple):
    """`enough`: the stop rule was reached (true without one)."""

    plan: Plan
    summary: Summary
    enough: bool


def run_matrix(folder: Path, plan: Plan, execute: Execute, show: Show) -> Outcome:
    """Run what is not finished of `plan` in `folder`, then further blocks until the stop rule is content.

    Raises:
        HilError: a run failed; its folder stays, and the matrix can be gone on with.
    """
    lock = RunLock(folder)
    try:
        while True:
            summary = _run_cells(folder, plan, execute, show)
            plan, more = _further(plan, summary)
            if not more:
                return Outcome(plan, summary, _content(plan, summary))
            write_plan(folder, plan)
    finally:
        lock.release()


def _run_cells(folder: Path, plan: Plan, execute: Execute, show: Show) -> Summary:
    found: list[tuple[Cell, Metrics]] = []
    total = len(plan.cells)
    for number, cell in enumerate(plan.cells):
        home = folder / cell.name
        note = f"{cell.name} (run {number + 1} of {total})"
        show(number, total, note)
        if not finished(home):
            _set_aside(folder, cell)
            prepared = prepare(plan.bench_of(), plan.campaign_of(cell))
            try:
                execute(prepared, home, lambda share, at=number, told=note: show(at + share, total, told))  # type: ignore[misc]
            except HilError as error:
                error.message = f"{cell.name}: {error.message}"
                error.hint = f"{error.hint}; then go on: hil campaign resume {folder}".removeprefix("; ")
                raise
        found.append((cell, _metrics(home)))
        write_summary(folder, plan, summarise(plan, found))
        show(number + 1, total, note)
    return summarise(plan, found)


def finished(home: Path) -> bool:
    """Whether a cell's run came to its end."""
    if not (home / JOURNAL).exists():
        return False
    try:
        journal = Journal.read(home)
    except InvalidRunError:
        return False
    try:
        return bool(journal.meta("ended_utc", ""))
    finally:
        journal.close()


def _set_aside(folder: Path, cell: Cell) -> None:
    """A run that was broken off is kept beside the others, and not counted."""
    home = folder / cell.name
    if home.exists():
        kept = folder / "interrupted"
        kept.mkdir(exist_ok=True)
        name = cell.name.replace("/", "-")
        number = 1 + sum(1 for _ in kept.glob(f"{name}-*"))
        home.rename(kept / f"{name}-{number}")
    home.parent.mkdir(parents=True, exist_ok=True)


def _metrics(home: Path) -> Metrics:
    """Of a finished run: from its report, which is written where there is none yet, or one that was made before."""
    path = home / "report.json"
    if path.exists():
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Metrics)
        except ValueError:  # of another release, or cut short: made again from the journal
            pass
        else:
            if found.complete:
                return found
    return report_run(home).metrics


def _content(plan: Plan, summary: Summary) -> bool:
    """Whether the mean that the stop rule names is known well enough in every variant."""
    stop = plan.matrix_of().stop
    if stop is None:
        return True
    key = key_of(stop.metric, stop.statistic)
    for variant in plan.campaigns:
        mean = summary.means[variant].get(key)
        if mean is None or mean.percent is None or mean.percent > stop.within_percent:
            return False
    return True


def _further(plan: Plan, summary: Summary) -> tuple[Plan, bool]:
    """The plan with one more block, if the stop rule wants one and its cap allows it."""
    matrix = plan.matrix_of()
    seeds = list(dict.fromkeys(cell.seed for cell in plan.cells if cell.block > 0))
    if matrix.stop is None or _content(plan, summary) or len(seeds) >= matrix.stop.most_seeds:
        return plan, False
    number = max(cell.block for cell in plan.cells) + 1
    more = block(number, list(plan.campaigns), next_seed(seeds), 1, matrix.order_seed)
    return msgspec.structs.replace(plan, cells=(*plan.cells, *more)), True
