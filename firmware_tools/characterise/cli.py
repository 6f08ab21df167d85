"""`hil bench characterise`."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from firmware_tools.bench_file import BENCH_OPTION, boards_of


@click.command()
@click.argument("board")
@click.option("--ambient-c", type=float, help="Temperature of the room in degrees Celsius, read by you.")
@click.option("--ambient-by", default="", help="With --ambient-c: the thermometer on which you read it.")
@click.option("--ambient-sensor", default="", help="File of this machine's kernel, in millidegrees Celsius, instead.")
@click.option("--idle", "idle_s", type=click.FloatRange(1, 86_400), default=60.0, show_default=True,
              help="Seconds of idle power.")  # fmt: skip
@click.option("--load", "load_s", type=click.FloatRange(1, 86_400), default=300.0, show_default=True,
              help="Seconds of power under load.")  # fmt: skip
@click.option("--settle", "settle_s", type=click.FloatRange(0, 3600), default=10.0, show_default=True,
              help="Seconds before each.")  # fmt: skip
@click.option("--accept", type=click.Choice(["modelled", "fake"]), default=None,
              help="Record power of this kind too; the record says so.")  # fmt: skip
@BENCH_OPTION
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def characterise(
    board: str, ambient_c: float | None, ambient_by: str, ambient_sensor: str, idle_s: float, load_s: float,
    settle_s: float, accept: str | None, bench_file: Path, as_json: bool,
) -> None:  # fmt: skip
    """Record what a board takes and how warm it gets, idle and under load, and the temperature of the room.

    The record is dated, lies beside the bench file and is never overwritten. Named there as `characterisation` of the
    board, it goes into the record of every run.
    """
    from firmware_tools.characterise.ambient import Thermometer
    from firmware_tools.characterise.job import Windows
    from firmware_tools.characterise.job import characterise as measure
    from firmware_tools.characterise.record import keep
    from firmware_tools.state import State

    bench, (found,) = boards_of(bench_file, (board,))
    thermometer = Thermometer(ambient_c, ambient_by, ambient_sensor)
    windows = Windows(idle_s, load_s, settle_s)
    done = measure(
        found, bench, State(bench_file), thermometer, windows, accept or "",
        lambda words: click.echo(f"{board}: {words}", err=True),
    )  # fmt: skip
    path = keep(done, bench_file)
    if as_json:
        click.echo(json.dumps({"file": str(path), "record": msgspec.to_builtins(done)}))
        return
    die = done.die
    click.echo(f"{board}: room {done.ambient.before_c:.1f} to {done.ambient.after_c:.1f} C, {done.ambient.provenance}")
    click.echo(f"{board}: idle {done.idle.mean_w:.3f} W, under load {done.load.mean_w:.3f} W, {done.power}")
    if die is None:
        click.echo(f"{board}: die temperature not known: {done.no_die}")
    else:
        rise = f"{die.idle_c:.1f} C idle, {die.load_c:.1f} C under load, {die.rise_k:.1f} K more"
        click.echo(f"{board}: die {rise}, {die.provenance}")
    click.echo(f"{board}: {path}")
    click.echo(f"{board}: into the bench file: characterisation: {path.parent.name}/{path.name}")
