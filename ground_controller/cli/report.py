"""`hil report`: a run's numbers as a page, a JSON file and a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from ground_controller.report.page import report_run
from ground_controller.report.terminal import print_metrics


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def report(folder: Path, as_json: bool) -> None:
    """Write FOLDER/report.html and FOLDER/report.json, and print the table."""
    metrics, path = report_run(folder)
    if as_json:
        click.echo(json.dumps({"report": str(path), "metrics": metrics.as_json()}))
        return
    print_metrics(metrics, Console(file=sys.stdout))
    click.echo(f"\n{path}")
