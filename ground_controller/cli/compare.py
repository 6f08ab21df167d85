"""`hil compare`: runs, or groups of runs, side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from ground_controller.report.compare import Comparison, Line, compare
from ground_controller.report.compare_page import means, write_comparison


@click.command("compare")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("others", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page with plots there, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def compare_command(base: Path, others: tuple[Path, ...], html: Path | None, as_json: bool) -> None:
    """Put OTHERS beside BASE: settings that differ, figures with paired intervals, and whether they can be told apart.

    Each is a run folder, or a folder of run folders that differ by seed. No run may stand on two sides.
    """
    found = compare(base, others) if html is None else write_comparison(base, others, html)
    if as_json:
        click.echo(msgspec.json.encode({"comparisons": found}).decode())
        return
    console = Console(file=sys.stdout)
    for one in found:
        show(one, console)
    if html is not None:
        console.print(str(html), markup=False, soft_wrap=True)


def show(one: Comparison, console: Console) -> None:
    """For a person."""
    console.print(f"{one.other} against {one.base}; work accounting: {one.accounting}", markup=False, soft_wrap=True)
    if not one.settings:
        console.print("  their settings are the same")
    for key, ours, theirs in one.settings:
        console.print(f"  {key}: {theirs} (base: {ours})", markup=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("metric", "base", "other", "95 % interval", "pairs"):
        table.add_column(heading, overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for line in one.lines:
        table.add_row(
            f"{line.metric}, {line.unit}", *means(line), _interval(line), str(line.pairs), line.verdict
        )  # fmt: skip
    console.print(table)
    console.print("Intervals are of other / base (x), else of other - base.")
    notes: dict[str, list[str]] = {}
    for line in one.lines:
        if line.note:
            notes.setdefault(line.note, []).append(line.metric)
    for note, metrics in notes.items():
        console.print(f"{', '.join(metrics)}: {note}", markup=False)
    console.print(one.paired_by)


def _interval(line: Line) -> str:
    if line.estimate is None:
        return ""
    sign = "x " if line.statistic == "ratio" else ""
    return f"{sign}{line.estimate:.4g} [{line.low:.4g}, {line.high:.4g}]"
