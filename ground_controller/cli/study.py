"""`hil study`: studies of policies and placements on modelled satellites, each one command."""

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

JSON_FLAG = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


def out_option(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--out`, with the study's own folder as default."""
    return click.option(
        "--out", type=click.Path(path_type=Path), default=Path("runs") / f"study-{name}", show_default=True,
        help="Folder for study.html, study.json and the PNGs.",
    )  # fmt: skip


JOBS_OPTION = click.option(
    "--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True, help="Processes at a time."
)


@click.group()
def study() -> None:
    """Questions answered by many modelled runs: a table, plots, and what is not shown."""


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


@study.command("spacemoe-placement")
@click.option("--draws", type=click.IntRange(min=1), default=10, show_default=True, help="Random placements of each.")
@click.option("--tokens", type=click.IntRange(min=1), default=64, show_default=True, help="Tokens in each snapshot.")
@click.option(
    "--sweep/--no-sweep", default=True, show_default=True, help="Turn each knob of the setting, one at a time."
)
@click.option("--seed", default=0, show_default=True, help="Of link losses, use of experts and tokens.")
@JOBS_OPTION
@out_option("spacemoe-placement")
@JSON_FLAG
def spacemoe_placement_command(
    draws: int, tokens: int, sweep: bool, seed: int, jobs: int, out: Path, as_json: bool
) -> None:
    """Seconds a token under the four placement rules of arXiv 2605.00515, over its constellation."""
    from ground_controller.studies.spacemoe_cases import Effort
    from ground_controller.studies.spacemoe_placement import spacemoe_placement

    finish(spacemoe_placement(Effort(draws, tokens), sweep, jobs, seed, told), out, as_json)
