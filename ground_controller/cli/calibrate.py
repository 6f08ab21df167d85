"""`hil calibrate` and `hil fidelity`: board models from a real run, and how near a simulation comes to one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from ground_controller.simulation.board_model import write_calibration
from ground_controller.simulation.fidelity import AIMS, Pair, compare
from ground_controller.simulation.fit import calibrate_run


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write, for hil simulate.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def calibrate_command(run: Path, out: Path, as_json: bool) -> None:
    """Fit board models to a run on real nodes: time and power of each kind of work, with what does not fit."""
    found = calibrate_run(run)
    write_calibration(out, found)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    click.echo(found.source)
    for board in found.boards:
        table = Table(title=f"{board.profile}: idle {board.idle_w:g} W, hop {board.hop_us:.0f} us")
        for heading in ("work", "precision", "base us", "us a row", "W above idle", "misfit", "samples"):
            table.add_column(heading)
        for w in board.works:
            misfit = "" if w.residual is None else f"{w.residual:.1%}"
            row = (f"{w.base_us:.0f}", f"{w.row_us:.1f}", f"{w.watts:.2f}", misfit, str(w.samples))
            table.add_row(w.kind, w.precision, *row)
        Console(file=sys.stdout).print(table)
        click.echo(f"power of a second: {board.power_residual_w:.3g} W root mean square from the model")
    click.echo(f"written to {out}; use it: hil simulate ... --calibration {out}")


@click.command()
@click.argument("real", type=click.Path(path_type=Path))
@click.argument("simulated", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def fidelity_command(real: Path, simulated: Path, as_json: bool) -> None:
    """Put a run on boards and a simulation of the same campaign side by side."""
    pairs = compare(real, simulated)
    if as_json:
        click.echo(json.dumps([pair._asdict() for pair in pairs]))
        return
    table = Table()
    for heading in ("figure", "boards", "simulated", "ratio", "aim"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for pair in pairs:
        ratio = "" if pair.ratio is None else f"{pair.ratio:.3f}"
        table.add_row(pair.name, _figure(pair.real), _figure(pair.simulated), ratio, _aim(pair))
    Console(file=sys.stdout).print(table)
    missed = [pair.name for pair in pairs if pair.within is False]
    click.echo(f"aims missed: {', '.join(missed)}" if missed else "all aims met, on this pair of runs")


def _figure(value: float | None) -> str:
    return "not known" if value is None else f"{value:.5g}"


def _aim(pair: Pair) -> str:
    if pair.within is None:
        return ""
    return f"{AIMS[pair.name]:.0%} {'met' if pair.within else 'missed'}"
