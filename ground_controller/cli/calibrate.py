"""`hil calibrate` and `hil fidelity`: board models from a real run, and how near a simulation comes to one."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from ground_controller.campaign import Progress
from ground_controller.cli.run_result import note
from ground_controller.cli.starting import bar
from ground_controller.mode_runs import ModeRuns, offered, run_each_mode
from ground_controller.simulation.board_model import DEFAULT_MODE, BoardModel, write_calibration
from ground_controller.simulation.fidelity import AIMS, Pair, compare, modes_used, power_of
from ground_controller.simulation.fit import calibrate_runs
from hil_config.schema.load import load_bench, load_campaign


@click.command()
@click.argument("paths", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write, for hil simulate.")
@click.option(
    "--each-mode", is_flag=True, help="Give BENCH_FILE CAMPAIGN_FILE: run them once in each power mode, then fit."
)
@click.option("--runs", type=click.Path(path_type=Path), help="Folder (new) for the runs of --each-mode.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def calibrate_command(paths: tuple[Path, ...], out: Path, each_mode: bool, runs: Path | None, as_json: bool) -> None:
    """Fit board models to runs on real nodes: time and power of each kind of work in each power mode, with what does
    not fit."""
    if each_mode != (runs is not None) or (each_mode and len(paths) != 2):
        raise click.UsageError("give RUN..., or --each-mode --runs FOLDER BENCH_FILE CAMPAIGN_FILE")
    refused: dict[str, str] = {}
    if runs is not None:
        paths, refused = _run_modes(paths[0], paths[1], runs)
    found = calibrate_runs(paths)
    write_calibration(out, found)
    for mode, reason in refused.items():
        click.echo(f"mode {mode} was not calibrated: {reason}", err=True)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    click.echo(found.source)
    for board in found.boards:
        _show(board)
    click.echo(f"written to {out}; use it: hil simulate ... --calibration {out}")


def _run_modes(bench_file: Path, campaign_file: Path, folder: Path) -> ModeRuns:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an orderly end: boards go back into their modes
    bench, intent = load_bench(bench_file), load_campaign(campaign_file)
    intent.check_against(bench, campaign_file)
    count = len(names := offered(bench))
    with bar("in each power mode", names[0]) as show:

        def went(mode: str, p: Progress) -> None:
            show(names.index(mode) + min(1.0, p.scenario_s / p.duration_s), count, f"{mode}, {note(p)}")

        return run_each_mode(bench, intent, folder, went)


def _show(board: BoardModel) -> None:
    mode = "" if board.mode == DEFAULT_MODE else f" in mode {board.mode}"
    table = Table(title=f"{board.profile}{mode}: idle {board.idle_w:g} W, hop {board.hop_us:.0f} us")
    for heading in ("work", "precision", "base us", "us a row", "W above idle", "misfit", "samples"):
        table.add_column(heading)
    for w in board.works:
        misfit = "" if w.residual is None else f"{w.residual:.1%}"
        row = (f"{w.base_us:.0f}", f"{w.row_us:.1f}", f"{w.watts:.2f}", misfit, str(w.samples))
        table.add_row(w.kind, w.precision, *row)
    Console(file=sys.stdout).print(table)
    click.echo(board.origin)
    click.echo(f"power of a second: {board.power_residual_w:.3g} W root mean square from the model")


@click.command()
@click.argument("real", type=click.Path(path_type=Path))
@click.argument("simulated", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def fidelity_command(real: Path, simulated: Path, as_json: bool) -> None:
    """Put a run on boards and a simulation of the same campaign side by side."""
    pairs = compare(real, simulated)
    if as_json:
        found = {"figures": [pair._asdict() for pair in pairs], "verdict": verdict(pairs), "power": power_of(real)}
        click.echo(json.dumps({**found, "modes": msgspec.to_builtins(modes_used(simulated))}))
        return
    table = Table()
    for heading in ("figure", "boards", "simulated", "ratio", "aim"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for pair in pairs:
        ratio = "" if pair.ratio is None else f"{pair.ratio:.3f}"
        table.add_row(pair.name, _figure(pair.real), _figure(pair.simulated), ratio, _aim(pair))
    Console(file=sys.stdout).print(table)
    for use in modes_used(simulated):
        click.echo(
            f"mode {use.mode} of {use.profile}: {'calibrated' if use.calibrated else 'NOT CALIBRATED'}: {use.origin}"
        )
    click.echo(verdict(pairs))
    click.echo(f"boards' power: {power_of(real)}")


def verdict(pairs: list[Pair]) -> str:
    """Aims missed, aims that nothing is known of, or that all are met."""
    missed = [pair.name for pair in pairs if pair.within is False]
    unknown = [name for name in AIMS if all(pair.name != name or pair.within is None for pair in pairs)]
    told = [f"aims missed: {', '.join(missed)}"] if missed else []
    told += [f"aims not judged, a figure is not known: {', '.join(unknown)}"] if unknown else []
    return "; ".join(told) or "all aims met, on this pair of runs"


def _figure(value: float | None) -> str:
    return "not known" if value is None else f"{value:.5g}"


def _aim(pair: Pair) -> str:
    if pair.within is None:
        return ""
    return f"{AIMS[pair.name]:.0%} {'met' if pair.within else 'missed'}"
