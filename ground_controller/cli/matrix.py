"""What `hil campaign run`, `hil simulate` and `hil campaign resume` do with a matrix."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from ground_controller import campaign as runner
from ground_controller.cli.starting import bar, new_folder
from ground_controller.matrix.begin import plan_of
from ground_controller.matrix.plan import Kind, Plan, Simulated, read_plan, write_plan
from ground_controller.matrix.run import Execute, Outcome, run_matrix
from ground_controller.matrix.summary import Mean, Summary
from ground_controller.preparation import Prepared
from ground_controller.simulation.board_model import DEFAULT, read_calibration
from ground_controller.simulation.run import simulate
from ground_controller.telemetry.export import export_run
from hil_config.errors import EnvironmentFault, RequirementNotMet
from hil_config.schema.load import load_bench

MOST_SIDE_BY_SIDE = 5


def run_new(
    bench_file: Path,
    campaign_file: Path,
    out: Path | None,
    kind: Kind,
    simulated: Simulated,
    require: bool,
    as_json: bool,
    take_over: bool = False,
) -> None:
    """Plan a matrix, and run it."""
    plan = plan_of(load_bench(bench_file), campaign_file, kind, simulated)
    folder = new_folder(out, plan.campaign, "matrix")
    if folder.exists() and any(folder.iterdir()):
        raise EnvironmentFault(
            f"{folder}: is not empty", f"choose another --out, or go on with it: hil campaign resume {folder}"
        )
    write_plan(folder, plan)
    _run(folder, plan, require, as_json, take_over)


def resume(folder: Path, as_json: bool, take_over: bool = False) -> None:
    """Go on with what is missing."""
    _run(folder, read_plan(folder), False, as_json, take_over)


def _run(folder: Path, plan: Plan, require: bool, as_json: bool, take_over: bool) -> None:
    try:
        with bar(f"{plan.campaign} on {plan.kind}") as show:
            outcome = run_matrix(folder, plan, _execute(plan, take_over), show)
    except KeyboardInterrupt:
        click.echo(f"broken off; go on with what is missing: hil campaign resume {shlex.quote(str(folder))}", err=True)
        raise
    if as_json:
        told = {"folder": str(folder), "enough": outcome.enough, "summary": outcome.summary}
        click.echo(msgspec.json.encode(told).decode())
    else:
        show_outcome(folder, outcome, Console(file=sys.stdout))
    short = [row.cell.name for row in outcome.summary.rows if row.cell.block > 0 and row.met < row.required]
    if require and short:
        raise RequirementNotMet(
            f"{folder}: {len(short)} of {len(outcome.summary.rows)} runs do not meet every requirement: "
            + ", ".join(short[:5]), "their reports say which",
        )  # fmt: skip


def _execute(plan: Plan, take_over: bool) -> Execute:
    if plan.kind == "boards":

        def on_boards(prepared: Prepared, folder: Path, done: Callable[[float], None]) -> None:
            runner.run_campaign(prepared, folder, lambda p: done(min(1.0, p.scenario_s / p.duration_s)), take_over)
            export_run(folder)

        return on_boards
    calibration = plan.simulated.calibration
    boards = read_calibration(Path(calibration)) if calibration else DEFAULT

    def on_model_nodes(prepared: Prepared, folder: Path, done: Callable[[float], None]) -> None:
        simulate(prepared, folder, boards, plan.simulated.stride, (), lambda p: done(p.scenario_s / p.duration_s))

    return on_model_nodes


def show_outcome(folder: Path, outcome: Outcome, console: Console) -> None:
    """Where the figures come from, a row a variant, and what is next."""
    summary = outcome.summary
    if summary.kind == "model nodes":
        console.print("Run on model nodes: nothing of it is measured.", style="bold")
    for origin in dict.fromkeys(one for found in summary.sources.values() for one in found):
        keys = [key for key, found in summary.sources.items() if origin in found]
        console.print(f"{', '.join(keys)}: {origin}", markup=False)
    console.print(_table(summary))
    warm_up = sum(row.cell.block == 0 for row in summary.rows)
    count = f"{len(summary.rows) - warm_up} runs" + (f" and {warm_up} to warm up" if warm_up else "")
    console.print(f"mean over seeds +- half of its 95 % interval; {count}", markup=False)
    if not outcome.enough:
        console.print("the stop rule was not reached: its cap came first", style="bold")
    console.print(f"\nfolder   {folder}\nrows     {folder / 'summary.csv'}", markup=False, soft_wrap=True)
    variants = list(summary.means)
    if len(variants) > 1:
        told = " ".join(str(folder / name) for name in variants[:2])
        console.print(f"compare  hil compare {told}", markup=False, soft_wrap=True)


def _table(summary: Summary) -> Table:
    """Variants side by side, or below one another where there are many."""
    heads = ["figure", *summary.means]
    rows = [[key, *(_mean(found.get(key)) for found in summary.means.values())] for key in summary.sources]
    counted = [[row for row in summary.rows if row.cell.variant == v and row.cell.block > 0] for v in summary.means]
    if any(row.required for mine in counted for row in mine):
        told = (f"{sum(row.met == row.required for row in mine)} of {len(mine)} runs" for mine in counted)
        rows.append(["all requirements met", *told])
    if len(summary.means) > MOST_SIDE_BY_SIDE:
        heads, *rows = [list(column) for column in zip(heads, *rows, strict=True)]
    table = Table()
    for number, heading in enumerate(heads):
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for cells in rows:
        table.add_row(*cells)
    return table


def _mean(one: Mean | None) -> str:
    if one is None:
        return "not known"
    return f"{one.mean:.4g}" if one.half is None else f"{one.mean:.4g} +- {one.half:.2g}"
