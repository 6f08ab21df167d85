"""`hil sweep`: many simulated campaigns at once."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from ground_controller.cli.starting import bar, files_or_demo, new_folder
from ground_controller.preparation import prepare
from ground_controller.simulation.board_model import DEFAULT, read_calibration
from ground_controller.simulation.traces import record_traces
from ground_controller.sweep.cells import SweepCell, cells_of, policy_axis, seeds_of, value_axes, with_axes
from ground_controller.sweep.pools import in_processes, on_cluster
from ground_controller.sweep.run import SweepOutcome, run_sweep
from hil_config.errors import HilError, InvalidRunError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.load import load_bench
from hil_config.schema.yaml_text import read_yaml

SHOWN = ("tokens_per_s", "tpot_ms_p50", "gross_j_per_token", "temperature_peak_c_max", "wear_mean", "kept_mass")
MOST_ROWS = 40


@click.command("sweep")
@click.argument("bench_file", type=click.Path(path_type=Path), required=False)
@click.argument("campaign_file", type=click.Path(path_type=Path), required=False)
@click.option("--demo", is_flag=True, help="Use the embedded bench and campaign.")
@click.option("--policy", "policies", multiple=True, help="A selection policy to try; give it once for each.")
@click.option("--seeds", help="Like 1-20 or 1,2,5. Default: the campaign's.")
@click.option("--set", "changes", multiple=True, help="KEY=VALUE,VALUE: values of a key of the campaign to try.")
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option(
    "--dask", "address", help="Scheduler of a Dask cluster that runs the cells instead, like tcp://host:8786."
)
@click.option("--stride", type=click.IntRange(min=1), default=1, show_default=True, help="As of hil simulate.")
@click.option("--calibration", type=click.Path(path_type=Path), help="Board models of `hil calibrate`.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; one with finished cells is gone on with.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def sweep_command(
    bench_file: Path | None,
    campaign_file: Path | None,
    demo: bool,
    policies: tuple[str, ...],
    seeds: str | None,
    changes: tuple[str, ...],
    jobs: int,
    address: str | None,
    stride: int,
    calibration: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Simulate a campaign over policies, seeds and parameters, into one Parquet table.

    What is varied stands in the campaign's `matrix`, in the options, or in both.
    """
    bench_path, campaign_path = files_or_demo(bench_file, campaign_file, demo)
    bench = load_bench(bench_path)
    document = read_yaml(campaign_path)
    axes = policy_axis(policies) | value_axes(changes)
    document = with_axes(document, axes, seeds_of(seeds) if seeds else ())
    cells = cells_of(bench, document, DEFAULT if calibration is None else read_calibration(calibration), stride)
    folder = new_folder(out, document.data["campaign"], "sweep")
    run = partial(on_cluster, address=address) if address else partial(in_processes, jobs=jobs)
    try:
        with bar("sweep") as show:
            show(0, len(cells), "preparing model and orbit")
            _warm(cells[0])
            outcome = run_sweep(folder, cells, run, show)
    except KeyboardInterrupt:
        click.echo(f"broken off; go on with what is missing: the same command with --out {folder}", err=True)
        raise
    _tell(outcome, as_json)


def _warm(cell: SweepCell) -> None:
    """Build the shards and record the router's scores once, before many processes want them."""
    try:
        record_traces(prepare(Bench.model_validate_json(cell.bench), Campaign.model_validate_json(cell.campaign)))
    except HilError:
        pass  # the cell will say so, and only it


def _tell(outcome: SweepOutcome, as_json: bool) -> None:
    failed = outcome.failed
    if as_json:
        told = {
            "table": str(outcome.table), "cells": len(outcome.cells), "skipped": outcome.skipped,
            "failed": [{"labels": c.labels, "seed": c.seed, "error": r.error} for c, r in failed],
        }  # fmt: skip
        click.echo(json.dumps(told))
    else:
        console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 150)
        console.print("Simulated on model nodes: nothing of it is measured.", style="bold")
        console.print(_table(outcome))
        console.print(f"{len(outcome.cells)} cells, {outcome.skipped} of them finished before, {len(failed)} failed")
        click.echo(f"table  {outcome.table}")
    if failed:
        cell, result = failed[0]
        name = ", ".join([*cell.labels.values(), f"seed {cell.seed}"])
        raise InvalidRunError(
            f"{outcome.table}: {len(failed)} of {len(outcome.cells)} cells failed; the first ({name}): {result.error}",
            "the others are in the table; the same command with this --out tries the failed ones again",
        )


def _table(outcome: SweepOutcome) -> Table:
    axes = list(dict.fromkeys(axis for cell in outcome.cells for axis in cell.labels))
    table = Table()
    for heading in (*axes, "seed", *SHOWN):
        table.add_column(heading, overflow="fold")
    for cell, result in list(zip(outcome.cells, outcome.results, strict=True))[:MOST_ROWS]:
        shown = [f"{v:.5g}" if (v := result.figures.get(key)) is not None else "" for key in SHOWN]
        table.add_row(*(cell.labels.get(axis, "") for axis in axes), str(cell.seed), *(
            ["failed", *shown[1:]] if result.error else shown))  # fmt: skip
    if len(outcome.cells) > MOST_ROWS:
        table.add_row(f"... {len(outcome.cells) - MOST_ROWS} more in the table")
    return table
