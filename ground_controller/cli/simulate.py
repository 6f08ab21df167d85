"""`hil simulate`: a campaign on model nodes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import click
from rich.console import Console

from ground_controller.cli import matrix
from ground_controller.cli.starting import bar, files_or_demo, new_folder, prepared_from
from ground_controller.matrix.begin import has_matrix
from ground_controller.matrix.plan import Simulated
from ground_controller.report.metrics import measure
from ground_controller.report.page import report_run
from ground_controller.report.requirements import refuse_unmet
from ground_controller.report.terminal import print_metrics
from ground_controller.run_folder import write_manifest
from ground_controller.silence import refuse_silent
from ground_controller.simulation.board_model import DEFAULT, read_calibration
from ground_controller.simulation.continuation import content_hash
from ground_controller.simulation.run import Kill, Speed, simulate
from ground_controller.telemetry.export import export_run


def _kill(text: str) -> Kill:
    node, _, at = text.rpartition("@")
    try:
        at_s = float(at)
    except ValueError:
        at_s = math.nan
    if not (node and 0.0 <= at_s < math.inf):
        raise click.UsageError(f"--kill {text}: wanted NODE@SECONDS, like bravo@120")
    return Kill(node, at_s)


def speed_line(speed: Speed) -> str:
    """How fast it was, of both kinds of time."""
    return (
        f"{speed.scenario_s:g} s of orbit, {speed.host_s:g} s of modelled host time, in {speed.wall_s:.2f} s here: "
        f"{speed.times_real_time:.0f} x the orbit's time, {speed.host_s / speed.wall_s:.1f} x the host's"
    )


@click.command()
@click.argument("bench_file", type=click.Path(path_type=Path), required=False)
@click.argument("campaign_file", type=click.Path(path_type=Path), required=False)
@click.option("--demo", is_flag=True, help="Use the embedded bench and campaign.")
@click.option("--policy", help="Selection policy instead of the campaign's, with its default options.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder (new). Default: runs/<time>-<name>-<policy>.")
@click.option("--calibration", type=click.Path(path_type=Path), help="Board models of `hil calibrate`.")
@click.option(
    "--stride", type=click.IntRange(1), default=1, show_default=True,
    help="Calculate 1 of so many seconds of the data plane in detail.",
)  # fmt: skip
@click.option("--kill", "kills", multiple=True, help="NODE@SECONDS: this board fails at that orbit second.")
@click.option("--report/--no-report", "reports", default=True, help="Write report and tables, too.")
@click.option("--require", is_flag=True, help="Exit code 12 if a requirement of the campaign is not met.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def simulate_command(
    bench_file: Path | None,
    campaign_file: Path | None,
    demo: bool,
    policy: str | None,
    out: Path | None,
    calibration: Path | None,
    stride: int,
    kills: tuple[str, ...],
    reports: bool,
    require: bool,
    as_json: bool,
) -> None:
    """Run a campaign on model nodes: nothing of it is measured, and its report says so."""
    bench_path, campaign_path = files_or_demo(bench_file, campaign_file, demo)
    if not demo and has_matrix(campaign_path):
        if policy is not None or kills:
            raise click.UsageError("--policy, --kill: the campaign has a matrix, whose axes say what differs")
        simulated = Simulated("" if calibration is None else str(calibration.resolve()), stride)
        matrix.run_new(bench_path, campaign_path, out, "model nodes", simulated, require, as_json)
        return
    failing = tuple(_kill(text) for text in kills)
    boards = DEFAULT if calibration is None else read_calibration(calibration)
    prepared = prepared_from(bench_path, campaign_path, policy)
    folder = new_folder(out, f"{prepared.campaign.campaign}-simulated", prepared.policy.name)
    with bar("simulating") as show:
        speed = simulate(
            prepared, folder, boards, stride, failing,
            lambda p: show(min(p.scenario_s, p.duration_s), p.duration_s, f"{p.tokens} tokens"),
        )  # fmt: skip
    found: dict[str, object] = {
        "run": str(folder), "speed": {**speed._asdict(), "times": speed.times_real_time},
        "content": content_hash(folder),
    }  # fmt: skip
    if reports:
        export_run(folder)
        metrics, page = report_run(folder)
        found |= {"report": str(page), "metrics": metrics.as_json()}
        if not as_json:
            print_metrics(metrics, Console(file=sys.stdout))
    else:
        write_manifest(folder)
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(f"\n{speed_line(speed)}\nboards      {boards.source}\nrun folder  {folder}")
        click.echo(f"content     {found['content']}\ncheck it    hil campaign replay {folder}")
    if not speed.tokens:
        refuse_silent(folder)
    if require:
        refuse_unmet(str(folder), measure(folder).requirements)
