"""`hil study`: studies of policies and placements on modelled satellites, each one command."""

from __future__ import annotations

from pathlib import Path

import click

from ground_controller.cli.study_output import JOBS_OPTION, JSON_FLAG, finish, out_option, told
from ground_controller.cli.study_policies import policies_command
from ground_controller.cli.study_tradeoffs import (
    accuracy_command,
    architecture_command,
    heat_ramp_command,
    storage_command,
    wear_command,
)


@click.group()
def study() -> None:
    """Questions answered by many modelled runs: a table, plots, and what is not shown."""


study.add_command(policies_command)
study.add_command(heat_ramp_command)
study.add_command(wear_command)
study.add_command(accuracy_command)
study.add_command(storage_command)
study.add_command(architecture_command)


@study.command("spacemoe-placement")
@click.option("--draws", type=click.IntRange(min=1), default=10, show_default=True, help="Random placements of each.")
@click.option("--tokens", type=click.IntRange(min=1), default=64, show_default=True, help="Tokens in each snapshot.")
@click.option(
    "--sweep/--no-sweep", default=True, show_default=True, help="Turn each knob of the setting, one at a time."
)
@click.option("--seed", default=0, show_default=True, help="Of link losses, use of experts and tokens.")
@JOBS_OPTION
@out_option("spacemoe-placement")
@JSON_FLAG
def spacemoe_placement_command(
    draws: int, tokens: int, sweep: bool, seed: int, jobs: int, out: Path, as_json: bool
) -> None:
    """Seconds a token under the four placement rules of arXiv 2605.00515, over its constellation."""
    from ground_controller.studies.spacemoe_cases import Effort
    from ground_controller.studies.spacemoe_placement import spacemoe_placement

    finish(spacemoe_placement(Effort(draws, tokens), sweep, jobs, seed, told), out, as_json)
