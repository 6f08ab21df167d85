"""`hil export`: a run's tables as Parquet and CSV."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ground_controller.telemetry.export import FORMATS, export_run


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS), help="Default: all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def export(folder: Path, formats: tuple[str, ...], as_json: bool) -> None:
    """Write every table of a run to FOLDER/export."""
    files = [str(path) for path in export_run(folder, formats or FORMATS)]
    click.echo(json.dumps({"files": files}) if as_json else "\n".join(files))
