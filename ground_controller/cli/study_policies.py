"""`hil study policies`: every selection policy over the same orbits."""

from __future__ import annotations

from pathlib import Path

import click

from ground_controller.cli.study_output import JOBS_OPTION, JSON_FLAG, finish, out_option, told


@click.command("policies")
@click.option(
    "--scene", default="tight", show_default=True, help="tight, room or hot: how much heat the boards can shed."
)
@click.option("--seeds", type=click.IntRange(min=2), default=5, show_default=True, help="Draws, paired over policies.")
@click.option("--orbits", type=click.IntRange(min=2), default=2, show_default=True, help="The first is not measured.")
@click.option(
    "--plans", type=click.IntRange(min=1), default=6, show_default=True, help="Sampled a seed for perplexity."
)
@click.option(
    "--policy",
    "names",
    multiple=True,
    help="Only these and topk, as 'NAME key=number ...'. Default: all, and horizon with top_p's coverage.",
)
@click.option("--bound/--no-bound", default=True, show_default=True, help="The offline bound of seed 0.")
@JOBS_OPTION
@out_option("policies")
@JSON_FLAG
def policies_command(
    scene: str,
    seeds: int,
    orbits: int,
    plans: int,
    names: tuple[str, ...],
    bound: bool,
    jobs: int,
    out: Path,
    as_json: bool,
) -> None:
    """Energy, heat, wear, perplexity, bytes and latency of every selection policy over the same orbits."""
    from ground_controller.policies.registry import SELECTION, selection_policy
    from ground_controller.studies.policy_cells import BESIDE, Effort, named, run_all
    from ground_controller.studies.policy_scene import scene_of
    from ground_controller.studies.policy_study import compose

    chosen = scene_of(scene)
    policies = sorted({"topk", *names}) if names else sorted([*SELECTION, *BESIDE])
    for text in policies:
        selection_policy(*named(text))
    effort = Effort(orbits, seeds, plans)
    cells, bounds = run_all(chosen, policies, effort, jobs, bound, told)
    finish(compose(chosen, effort, policies, cells, bounds), out, as_json)
