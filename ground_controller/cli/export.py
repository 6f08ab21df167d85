"""`hil export`: a run's tables as files for other programs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ground_controller.telemetry.export import DEFAULT, FORMATS, export_run


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(FORMATS), help=f"Default: {' and '.join(DEFAULT)}."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def export(folder: Path, formats: tuple[str, ...], as_json: bool) -> None:
    """Write every table of a run to FOLDER/export.

    parquet, csv and arrow give a file for each table; influx (line protocol) gives run.lp, mcap (Foxglove) run.mcap.
    """
    files = [str(path) for path in export_run(folder, formats or DEFAULT)]
    click.echo(json.dumps({"files": files}) if as_json else "\n".join(files))
