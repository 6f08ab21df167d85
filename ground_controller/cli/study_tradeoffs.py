"""`hil study heat-ramp`, `wear`, `accuracy`, `storage`, `architecture`: what is given up for what, by plots."""

from __future__ import annotations

from pathlib import Path

import click

from ground_controller.cli.study_output import JOBS_OPTION, JSON_FLAG, finish, out_option, told

SCENE = click.option("--scene", default="tight", show_default=True, help="As of hil study policies.")
SEEDS = click.option("--seeds", type=click.IntRange(min=2), default=3, show_default=True, help="Draws, paired.")

DURATION = click.option(
    "--duration-s", type=click.FloatRange(min=20), default=300.0, show_default=True, help="Seconds of orbit."
)


@click.command("heat-ramp")
@out_option("heat-ramp")
@JSON_FLAG
def heat_ramp_command(out: Path, as_json: bool) -> None:
    """The sink warms: precision and expert count fall, temperature holds, and what it costs in nats."""
    from ground_controller.studies.heat_ramp import heat_ramp_study

    finish(heat_ramp_study(told), out, as_json)


@click.command("wear")
@SCENE
@SEEDS
@JOBS_OPTION
@out_option("wear")
@JSON_FLAG
def wear_command(scene: str, seeds: int, jobs: int, out: Path, as_json: bool) -> None:
    """Throughput and latency now against battery wear over a year, as the load is turned up."""
    from ground_controller.studies.policy_cells import Effort
    from ground_controller.studies.policy_scene import scene_of
    from ground_controller.studies.tradeoff_policies import wear_study

    finish(wear_study(scene_of(scene), Effort(seeds=seeds, plans=1, tokens=100), jobs, told), out, as_json)


@click.command("accuracy")
@SCENE
@SEEDS
@JOBS_OPTION
@out_option("accuracy")
@JSON_FLAG
def accuracy_command(scene: str, seeds: int, jobs: int, out: Path, as_json: bool) -> None:
    """Accuracy against heat and bytes: the knob of each policy that skips experts is turned."""
    from ground_controller.studies.policy_cells import Effort
    from ground_controller.studies.policy_scene import scene_of
    from ground_controller.studies.tradeoff_policies import accuracy_study

    finish(accuracy_study(scene_of(scene), Effort(seeds=seeds, plans=3), jobs, told), out, as_json)


@click.command("storage")
@SEEDS
@DURATION
@out_option("storage")
@JSON_FLAG
def storage_command(seeds: int, duration_s: float, out: Path, as_json: bool) -> None:
    """Access latency against storage: every expert on one to all of four boards."""
    from ground_controller.studies.fleet_shape import storage_study

    finish(storage_study(seeds, duration_s, told), out, as_json)


@click.command("architecture")
@SEEDS
@DURATION
@out_option("architecture")
@JSON_FLAG
def architecture_command(seeds: int, duration_s: float, out: Path, as_json: bool) -> None:
    """One satellite, a ring in its plane, across planes, with a ground station."""
    from ground_controller.studies.fleet_shape import architecture_study

    finish(architecture_study(seeds, duration_s, told), out, as_json)
