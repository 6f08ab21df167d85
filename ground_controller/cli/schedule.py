"""`hil schedule`: build a link schedule file, show what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from ground_controller.cli.schedule_formats import export_command, import_command
from ground_controller.preparation import compile_orbit
from hil_config.schema.load import default_path, load_campaign
from hil_config.wire.schedule_file import LinkSchedule, encode_schedule, read_schedule, schedule_hash


@click.group()
def schedule() -> None:
    """Compile and look at link schedules."""


schedule.add_command(import_command)
schedule.add_command(export_command)


@schedule.command("build")
@click.argument("campaign_file", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The schedule file to write.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def build_command(campaign_file: Path | None, out: Path, as_json: bool) -> None:
    """Compile the orbit of a campaign (default: the embedded one)."""
    compiled = compile_orbit(load_campaign(campaign_file or default_path("campaign"))).factual
    data = encode_schedule(compiled)
    part = out.with_name(out.name + ".part")
    part.write_bytes(data)
    part.replace(out)
    _show(compiled, data, as_json)


@schedule.command("show")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def show_command(path: Path, as_json: bool) -> None:
    """Links, outages and eclipses of a schedule file."""
    compiled, data = read_schedule(path)
    _show(compiled, data, as_json)


def _show(compiled: LinkSchedule, data: bytes, as_json: bool) -> None:
    pairs: list[dict[str, Any]] = []
    time_s = np.arange(0.0, compiled.duration_s + compiled.header.step_s / 2, compiled.header.step_s)
    seen = compiled.sample(time_s)
    for column, (a, b) in enumerate(compiled.header.pairs):
        up = seen.up[:, column]
        delay_ms = seen.delay_s[up, column] * 1e3
        pairs.append(
            {
                "from": a, "to": b, "up_share": round(float(up.mean()), 4),
                "delay_ms": [round(float(f(delay_ms)), 3) for f in (min, max)] if up.any() else None,
            }
        )  # fmt: skip
    lit = {
        name: round(float(np.mean([compiled.illumination(name, t) for t in time_s.tolist()])), 4)
        for name in compiled.header.satellites
    }
    if as_json:
        head = {"sha256": schedule_hash(data), "epoch_utc": compiled.header.epoch_utc}
        click.echo(json.dumps({**head, "duration_s": compiled.duration_s, "links": pairs, "sunlit_share": lit}))
        return
    click.echo(f"{compiled.header.epoch_utc}, {compiled.duration_s:g} s, {len(compiled.arrays.links)} changes")
    click.echo(f"source {compiled.header.source}, sha256 {schedule_hash(data)[:16]}")
    for pair in pairs:
        delay = f"{pair['delay_ms'][0]:7.3f} to {pair['delay_ms'][1]:7.3f} ms" if pair["delay_ms"] else "never up"
        click.echo(f"  {pair['from']:>18} -> {pair['to']:<18} up {pair['up_share']:6.1%}  {delay}")
    for name, share in lit.items():
        click.echo(f"  {name:>18} sunlit {share:6.1%}")
