"""What commands that run a campaign begin with, on boards or in simulation: inputs, run folder, progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from ground_controller.policies.named import check_policies
from ground_controller.preparation import Prepared, prepare
from hil_config.schema.load import default_path, load_bench, load_campaign


@contextmanager
def bar(label: str, extra: str = "") -> Iterator[Callable[[float, float, str], None]]:
    """A progress bar with ETA on stderr: call it with (done, total, note)."""
    whole = Column(no_wrap=True, min_width=7)  # h:mm:ss; a narrow terminal cuts the note, not the times
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(table_column=whole), TextColumn("ETA"), TimeRemainingColumn(table_column=whole.copy()),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task(label, total=1.0, note=extra)
        yield lambda done, total, note: progress.update(task, completed=done, total=total, note=note)


def files_or_demo(bench_file: Path | None, campaign_file: Path | None, demo: bool) -> tuple[Path, Path]:
    """Bench and campaign file of a command that takes either both or --demo; UsageError for anything between."""
    if demo == (bench_file is not None or campaign_file is not None):
        raise click.UsageError("give BENCH_FILE and CAMPAIGN_FILE, or --demo")
    if bench_file is None:
        return default_path("bench"), default_path("campaign")
    if campaign_file is None:
        raise click.UsageError("CAMPAIGN_FILE is missing")
    return bench_file, campaign_file


def prepared_from(bench_file: Path, campaign_file: Path, policy: str | None) -> Prepared:
    bench, intent = load_bench(bench_file), load_campaign(campaign_file)
    intent.check_against(bench, campaign_file)
    check_policies(intent, campaign_file)
    if policy is not None:
        intent = intent.with_selection(policy)
    with bar("preparing model and orbit") as show:
        prepared = prepare(bench, intent, show)
    for warning in prepared.warnings:
        click.echo(f"warning: {warning}", err=True)
    return prepared


def new_folder(out: Path | None, name: str, policy: str) -> Path:
    return out if out is not None else Path("runs") / f"{time.strftime('%Y%m%dT%H%M%S')}-{name}-{policy}"
