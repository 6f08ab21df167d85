"""`hil campaign`: run, resume, replay, verify."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import click

from ground_controller import campaign as runner
from ground_controller.cli import matrix
from ground_controller.cli.check import check_command
from ground_controller.cli.resume import resume_command
from ground_controller.cli.run_result import note, stopped, tell
from ground_controller.cli.starting import bar, files_or_demo, new_folder, prepared_from
from ground_controller.cli.verify import verify_command
from ground_controller.matrix.begin import has_matrix
from ground_controller.matrix.plan import Simulated
from ground_controller.replay import replay_run
from ground_controller.report.page import report_run
from ground_controller.report.requirements import refuse_unmet
from ground_controller.silence import refuse_silent
from ground_controller.simulation.board_model import DEFAULT, read_calibration
from ground_controller.telemetry.export import export_run
from hil_config.errors import InvalidRunError


@click.group()
def campaign() -> None:
    """Run, resume, replay and verify campaigns."""


campaign.add_command(check_command)
campaign.add_command(resume_command)
campaign.add_command(verify_command)


@campaign.command("run")
@click.argument("bench_file", type=click.Path(path_type=Path), required=False)
@click.argument("campaign_file", type=click.Path(path_type=Path), required=False)
@click.option("--demo", is_flag=True, help="Use the embedded bench and campaign.")
@click.option("--policy", help="Selection policy instead of the campaign's, with its default options.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder (new). Default: runs/<time>-<name>-<policy>.")
@click.option("--require", is_flag=True, help="Exit code 12 if a requirement of the campaign is not met.")
@click.option("--take-over", is_flag=True, help="Take the bench from a controller that died without a word.")
@click.option("--calibration", type=click.Path(path_type=Path), help="Of model boards beside real ones: hil calibrate.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def run_command(
    bench_file: Path | None,
    campaign_file: Path | None,
    demo: bool,
    policy: str | None,
    out: Path | None,
    require: bool,
    take_over: bool,
    calibration: Path | None,
    as_json: bool,
) -> None:
    """Replay an orbit over a bench, generate text through it, and report."""
    bench_path, campaign_path = files_or_demo(bench_file, campaign_file, demo)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an orderly end: nothing stays behind
    if not demo and has_matrix(campaign_path):
        if policy is not None:
            raise click.UsageError("--policy: the campaign has a matrix, whose axes say which policies run")
        matrix.run_new(bench_path, campaign_path, out, "boards", Simulated(), require, as_json, take_over)
        return
    prepared = prepared_from(bench_path, campaign_path, policy)
    folder = new_folder(out, prepared.campaign.campaign, prepared.policy.name)
    with bar(f"orbit x {prepared.campaign.orbit.rate:g}", "starting the bench") as show:
        try:
            runner.run_campaign(
                prepared, folder, lambda p: show(min(p.scenario_s, p.duration_s), p.duration_s, note(p)), take_over,
                DEFAULT if calibration is None else read_calibration(calibration),
            )  # fmt: skip
        except KeyboardInterrupt:
            click.echo(stopped(folder), err=True)
            raise
    with bar("exporting and reporting") as show:
        files = export_run(folder)
        show(1, 2, "report")
        report = report_run(folder)
        show(2, 2, "")
    tell(folder, report, files, as_json)
    if not report.metrics.tokens:
        refuse_silent(folder)
    if require:
        refuse_unmet(str(folder), report.metrics.requirements)


@campaign.command("replay")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def replay_command(folder: Path, as_json: bool) -> None:
    """Derive every decision of a run again and compare it with the journal."""
    found = replay_run(folder)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "ticks": found.ticks, "gate_decisions": found.gates, "unchecked": found.unchecked,
                    "mismatches": found.mismatches, "first": found.first,
                }
            )
        )  # fmt: skip
    else:
        click.echo(
            f"{found.ticks} control decisions and {found.gates} gate decisions derived again: "
            f"{found.mismatches} mismatches"
        )
        if found.unchecked:
            click.echo(f"{found.unchecked} gate decisions could not be checked: their plan is not in the journal")
    if found.mismatches:
        raise InvalidRunError(
            f"{folder}: {found.mismatches} mismatches: {'; '.join(found.first)}",
            "the journal was changed, or another release made it: do not use its figures",
        )
