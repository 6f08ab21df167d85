"""What commands that run a campaign show: a note beside the progress bar, and the result."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ground_controller.campaign import Progress
from ground_controller.journal import Journal
from ground_controller.report.page import Report
from ground_controller.report.terminal import print_metrics
from hil_config.errors import EnvironmentFault, InvalidRunError


def note(progress: Progress) -> str:
    """Tokens so far, and the hottest node."""
    warm = progress.decision.column("temperature_c")
    hottest = int(warm.argmax())
    return f"{progress.tokens} tokens, {progress.decision.plan.nodes[hottest]} {warm[hottest]:.1f} C"


def stopped(folder: Path) -> str:
    """What a person may type next, of a run that was stopped; as its record stands."""
    ended, ticks = "", 1
    try:
        journal = Journal.read(folder, watch=True)
        ended, ticks = journal.meta("ended_utc", ""), journal.count("tick", 1 << 62)
        journal.close()
    except EnvironmentFault:  # a full disk: it can be read once there is room
        pass
    except InvalidRunError:
        ticks = 0
    if ended:
        return f"stopped after its end: hil report {shlex.quote(str(folder))}"
    if not ticks:
        return "stopped before its first tick: there is nothing to go on with; run the campaign again"
    return f"stopped; to go on with it: hil campaign resume {shlex.quote(str(folder))}"


def tell(folder: Path, report: Report, files: list[Path], as_json: bool) -> None:
    """The result on stdout, as a table or as one JSON object."""
    if as_json:
        found: dict[str, Any] = {"run": str(folder), "report": str(report.page), "metrics": report.metrics.as_json()}
        click.echo(json.dumps({**found, "export": [str(path) for path in files]}))
        return
    print_metrics(report.metrics, Console(file=sys.stdout))
    click.echo(f"\nrun folder  {folder}\nreport      {report.page}\ntelemetry   {folder / 'export'} (Parquet and CSV)")
    click.echo(f"check it    hil campaign replay {folder}")
