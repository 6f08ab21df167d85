"""`hil campaign resume`: a run whose controller died goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from ground_controller.cli import matrix
from ground_controller.cli.run_result import note, stopped, tell
from ground_controller.cli.starting import bar
from ground_controller.journal import Journal
from ground_controller.matrix.plan import is_matrix
from ground_controller.report.page import report_run
from ground_controller.telemetry.export import export_run


def simulated(folder: Path) -> bool:
    """Whether a run was on model nodes."""
    journal = Journal.read(folder)
    try:
        return bool(journal.meta("simulated", ""))
    finally:
        journal.close()


@click.command("resume")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--take-over", is_flag=True, help="Take the bench from a controller that died without a word.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def resume_command(folder: Path, take_over: bool, as_json: bool) -> None:
    """Bring a run whose controller died to its end. On boards the orbit goes on where the record ends;
    a simulation ends as if it had not been broken. In the folder of a campaign with a matrix: go on with the runs that
    are missing."""
    if is_matrix(folder):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        matrix.resume(folder, as_json, take_over)
        return
    if simulated(folder):
        _simulation(folder)
    else:
        from ground_controller.resume import resume_campaign

        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with bar("orbit, gone on with", "deriving the record again") as show:
            try:
                resume_campaign(
                    folder, lambda p: show(min(p.scenario_s, p.duration_s), p.duration_s, note(p)), take_over
                )  # fmt: skip
            except KeyboardInterrupt:
                click.echo(stopped(folder), err=True)
                raise
    files = export_run(folder)
    tell(folder, report_run(folder), files, as_json)


def _simulation(folder: Path) -> None:
    from ground_controller.simulation.continuation import content_hash, continue_simulation

    with bar("simulating") as show:
        _, compared = continue_simulation(
            folder, lambda p: show(min(p.scenario_s, p.duration_s), p.duration_s, f"{p.tokens} tokens")
        )
    click.echo(
        f"{compared} entries on record were derived again and are the same; the run went on from there", err=True
    )
    click.echo(f"content {content_hash(folder)}", err=True)
