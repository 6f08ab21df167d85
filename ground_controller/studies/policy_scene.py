"""The bench of the policy study: sixteen boards spread over a shell, so that some are in the dark while others are not.

A seed draws the day of the year (and with it how long the eclipses are), which satellites carry boards, their charges,
and the tokens. Everything a policy meets but its own answers follows from scene and seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ground_controller.outlook import orbit_s
from ground_controller.preparation import Prepared, platform_of, prepare
from ground_controller.simulation.traces import record_traces
from ground_controller.world import Setting
from hil_config.errors import UsageError
from hil_config.schema.bench import Bench, Board
from hil_config.schema.campaign import Campaign, Start
from hil_config.schema.load import default_path, load_campaign
from hil_config.schema.orbit import Shell
from hil_config.schema.platforms import PlatformChoice

PLANES = PER_PLANE = 16
BOARD = "raspberry-pi-4b"
BUSY_C = 50.0
STEP_S = 60.0
"""Between samples of the link schedule."""


@dataclass(frozen=True)
class Scene:
    """What the satellites are, and what is asked of them.

    Args:
        tokens_s: tokens a second of all requests together. call_j, trunk_j: energy above idle of one row through an
        expert and through a layer's trunk. charge_soft: state of charge below which a board takes no new work.
    """

    name: str
    about: str
    platform: PlatformChoice
    tokens_s: float
    call_j: float
    trunk_j: float
    satellites: int = 16
    charge_soft: float = 0.45

    @property
    def orbit_s(self) -> float:
        """Period, in whole steps of the schedule."""
        return round(orbit_s(platform_of(self.platform)) / STEP_S) * STEP_S


_BUS = PlatformChoice(battery_wh=60.0, base_load_w=13.0)
SCENES = {
    name: Scene(name, about, _BUS.model_copy(update={"sink_c": sink_c}), tokens_s=40.0, call_j=0.03, trunk_j=0.006)
    for name, about, sink_c in (
        ("tight", "sink at -3 C: heat just fits under its limit", -3.0),
        ("room", "sink at -10 C: heat leaves room, batteries decide", -10.0),
        ("hot", "sink at 2 C, about what was fitted to BUPT-1: the heat of all the work cannot fit", 2.0),
    )
}


@dataclass(frozen=True)
class Stage:
    """A scene with a seed: everything is set but the policy.

    `scores` float32 [layers, P, E]: what the real router said at P positions of the reference prompts. `prepared` has
    shards, schedule and placement.
    """

    scene: Scene
    seed: int
    setting: Setting
    scores: NDArray[np.float32]
    prepared: Prepared


@lru_cache(maxsize=2)
def stage(scene: Scene, seed: int, orbits: int, tick_s: float) -> Stage:
    """Compile the orbit, place the experts, read the router's scores."""
    rng = np.random.default_rng((11, seed))
    names = _carriers(scene.satellites, rng)
    starts = tuple(Start(temperature_c=BUSY_C, charge=float(c)) for c in rng.uniform(0.65, 0.95, scene.satellites))
    day = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=int(rng.integers(0, 366 * 1_440)))
    prepared = prepare(
        Bench(bench="study", boards=tuple(Board(name=f"n{i:02d}", profile=BOARD) for i in range(scene.satellites))),
        _campaign(scene, seed, names, starts, day, orbits * scene.orbit_s, tick_s),
    )
    setting = replace(
        prepared.setting, energy_per_call_j=(scene.call_j,) * scene.satellites, accounting="duty", rate=1.0
    )
    traces = record_traces(prepared)
    return Stage(scene, seed, setting, np.concatenate([t.scores for t in traces], axis=1), prepared)


def _carriers(count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Satellites of every fourth plane and slot, moved together by a draw and each along its plane by another."""
    side = round(count**0.5)
    first = int(rng.integers(0, PLANES))
    along = rng.integers(0, PER_PLANE, side)
    planes = [(first + PLANES * i // side) % PLANES for i in range(side)]
    slots = [[(int(a) + PER_PLANE * j // side) % PER_PLANE for j in range(count // side)] for a in along]
    return tuple(f"STUDY-P{p:02d}S{s:02d}" for p, row in zip(planes, slots, strict=True) for s in row)


def _campaign(
    scene: Scene,
    seed: int,
    names: tuple[str, ...],
    starts: tuple[Start, ...],
    day: datetime,
    duration_s: float,
    tick_s: float,
) -> Campaign:
    demo = load_campaign(default_path("campaign"))
    shell = Shell(name="STUDY", altitude_km=550.0, inclination_deg=53.0, planes=PLANES, per_plane=PER_PLANE)
    orbit = demo.orbit.model_copy(
        update={
            "satellites": names, "shells": (shell,), "epoch_utc": day.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration_s": duration_s, "step_s": STEP_S, "rate": 1.0, "max_range_km": 5_016.0,
            "relay": "constellation", "isl": "grid",
        }
    )  # fmt: skip
    limits = demo.twin.limits.model_copy(update={"charge_soft": scene.charge_soft, "charge_hard": 0.3})
    twin = demo.twin.model_copy(update={"start": starts, "platform": scene.platform, "limits": limits})
    return demo.model_copy(
        update={
            "campaign": "study", "seed": seed, "orbit": orbit, "twin": twin,
            "control": demo.control.model_copy(update={"tick_s": tick_s}),
        }
    )  # fmt: skip


def scene_of(name: str) -> Scene:
    """The scene called `name`, or UsageError naming those there are."""
    if name not in SCENES:
        raise UsageError(f"there is no scene {name!r}", f"use one of {', '.join(SCENES)}")
    return SCENES[name]
