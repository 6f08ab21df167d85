"""The policy study in full: fifteen orbits (one day) and 20 seeds in every scene. Hours of two cores.

`HIL_SOAK_ORBITS`, `HIL_SOAK_SEEDS` and `HIL_SOAK_SCENES` (tight,room,hot) make less of it, and its page says how much.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ground_controller.policies.registry import SELECTION
from ground_controller.studies.page import write_study
from ground_controller.studies.policy_cells import BESIDE, Effort, run_all
from ground_controller.studies.policy_scene import SCENES, scene_of
from ground_controller.studies.policy_study import compose


def _told(begin_s: float) -> Callable[[str], None]:
    """Prints what was done last, every half minute at most."""
    last_s = begin_s

    def told(text: str) -> None:
        nonlocal last_s
        if time.perf_counter() - last_s > 30.0:
            last_s = time.perf_counter()
            print(f"  {last_s - begin_s:5.0f} s  {text}", flush=True)

    return told


def run() -> None:
    """Every scene, into runs/soak-policies-SCENE."""
    effort = Effort(
        orbits=int(os.environ.get("HIL_SOAK_ORBITS", "15")), seeds=int(os.environ.get("HIL_SOAK_SEEDS", "20")), plans=12
    )
    for name in os.environ.get("HIL_SOAK_SCENES", ",".join(SCENES)).split(","):
        scene, policies, begin_s = scene_of(name), sorted([*SELECTION, *BESIDE]), time.perf_counter()
        # The bound is a program over all ticks at once: two orbits of it are what the quick form has.
        cells, bounds = run_all(scene, policies, effort, os.cpu_count() or 1, effort.orbits <= 2, _told(begin_s))
        study = compose(scene, effort, policies, cells, bounds)
        path = write_study(Path("runs") / f"soak-policies-{name}", study)
        print(f"{name}: {effort.orbits} orbits, {effort.seeds} seeds in {time.perf_counter() - begin_s:.0f} s: {path}")
        for line in study.text:
            print(line, flush=True)
