"""What every study command has: its options, and how its result is shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table as RichTable

from ground_controller.studies.chart import Study
from hil_config.errors import EnvironmentFault

JSON_FLAG = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


def _made(context: click.Context, param: click.Parameter, folder: Path) -> Path:
    """Before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot be made: {error.strerror}", "name another folder: --out") from error
    return folder


def out_option(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--out`, with the study's own folder as default."""
    return click.option(
        "--out", type=click.Path(path_type=Path), default=Path("runs") / f"study-{name}", show_default=True,
        callback=_made, help="Folder for study.html, study.json and the PNGs.",
    )  # fmt: skip


JOBS_OPTION = click.option(
    "--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True, help="Processes at a time."
)


def told(text: str) -> None:
    """Progress, on stderr."""
    click.echo(text, err=True)


def finish(found: Study, out: Path, as_json: bool) -> None:
    """Write the study's files and print its tables and text, or one JSON object."""
    from ground_controller.studies.page import as_json as plain
    from ground_controller.studies.page import write_study

    path = write_study(out, found)
    if as_json:
        click.echo(json.dumps({"page": str(path), **plain(found)}))
        return
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 150)
    console.print(found.provenance, style="bold")
    for table in found.tables:
        shown = RichTable(title=table.title, title_justify="left")
        for heading in table.head:
            shown.add_column(heading, overflow="fold")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for line in found.text:
        console.print(line, highlight=False)
    click.echo(f"\n{path}")
