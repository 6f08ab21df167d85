"""`hil campaign check`: would a run be able to begin?"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console

from ground_controller.cli.starting import files_or_demo, prepared_from
from ground_controller.cli.verify import print_checks
from ground_controller.preflight.boards import look_at_bench
from ground_controller.preflight.inputs import look_at_inputs
from ground_controller.preflight.nodes import refuse_unready


@click.command("check")
@click.argument("bench_file", type=click.Path(path_type=Path), required=False)
@click.argument("campaign_file", type=click.Path(path_type=Path), required=False)
@click.option("--demo", is_flag=True, help="Use the embedded bench and campaign.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), help="Where the run is to be written.")
@click.option("--boards/--no-boards", default=True, help="Bring the bench up and ask the boards, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def check_command(
    bench_file: Path | None, campaign_file: Path | None, demo: bool, out: Path, boards: bool, as_json: bool
) -> None:
    """Check what a run needs: disk, schedule, shards; boards online, of this release, clocks, shards on them.

    Nothing is generated and no run folder is written. Exit code 9 if a check fails.
    """
    bench_path, campaign_path = files_or_demo(bench_file, campaign_file, demo)
    prepared = prepared_from(bench_path, campaign_path, None)
    checks = look_at_inputs(prepared, out)
    if boards:
        checks += look_at_bench(prepared)
    if as_json:
        ready = all(check.outcome != "fail" for check in checks)
        click.echo(msgspec.json.encode({"ready": ready, "checks": checks}).decode())
    else:
        print_checks(checks, Console(file=sys.stdout))
    refuse_unready(checks)
