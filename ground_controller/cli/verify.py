"""`hil campaign verify`: may the figures of a run be published?"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.text import Text

from ground_controller.journal import NAME
from ground_controller.matrix.plan import is_matrix, read_plan
from ground_controller.verification.check import Check
from ground_controller.verification.verify import refuse_failed, verify_run
from hil_config.errors import InvalidRunError

_STYLE = {"pass": "green", "fail": "bold red", "not applicable": "dim"}


@click.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def verify_command(folder: Path, as_json: bool) -> None:
    """Check a run: hashes, clocks, gaps, fakes, throttling, energy windows, replay. Exit code 10 if a check fails.

    In the folder of a campaign with a matrix: every run that counts.
    """
    if is_matrix(folder):
        _verify_matrix(folder, as_json)
        return
    checks = verify_run(folder)
    if as_json:
        passed = all(check.outcome != "fail" for check in checks)
        click.echo(msgspec.json.encode({"run": str(folder), "passed": passed, "checks": checks}).decode())
    else:
        print_checks(checks, Console(file=sys.stdout))
    refuse_failed(folder, checks)


def _verify_matrix(folder: Path, as_json: bool) -> None:
    """A line a run, and what failed in it; those that are still to come are named."""
    counted = [cell.name for cell in read_plan(folder).cells if cell.block > 0]
    missing = [name for name in counted if not (folder / name / NAME).exists()]
    found = {name: verify_run(folder / name) for name in counted if name not in missing}
    failed = {name: [one for one in checks if one.outcome == "fail"] for name, checks in found.items()}
    if as_json:
        told = {"folder": str(folder), "passed": not (missing or any(failed.values())), "runs": found}
        click.echo(msgspec.json.encode({**told, "missing": missing}).decode())
    for name, bad in failed.items() if not as_json else ():
        click.echo(
            f"{'fail' if bad else 'pass':<6}{name}" + "".join(f"\n      {one.name}: {one.figure}" for one in bad)
        )
    for name in missing if not as_json else ():
        click.echo(f"none  {name}")
    if missing:
        raise InvalidRunError(
            f"{folder}: {len(missing)} of {len(counted)} runs are missing: {', '.join(missing[:5])}",
            f"hil campaign resume {folder}",
        )
    if wrong := [name for name, bad in failed.items() if bad]:
        raise InvalidRunError(
            f"{folder}: {len(wrong)} of {len(found)} runs failed a check: {', '.join(wrong[:5])}",
            f"hil campaign verify {folder / wrong[0]}",
        )


def print_checks(checks: tuple[Check, ...], console: Console) -> None:
    """A line a check; where it failed, and what to do, below it."""
    for check in checks:
        line = Text(f"{check.outcome:<16}", _STYLE[check.outcome])
        console.print(line.append(f"{check.name:<17}", "default").append(check.figure, "default"), soft_wrap=True)
        if check.outcome == "fail":
            for what, text in (("where", check.where), ("hint", check.hint)):
                if text:
                    console.print(Text(f"{'':33}{what}: {text}"), soft_wrap=True)
