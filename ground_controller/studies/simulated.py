"""Simulated runs of small benches over a Walker shell, for studies that need queues and links in detail."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from ground_controller.policies.view import Placement, PlacementProblem
from ground_controller.preparation import Prepared, prepare
from ground_controller.report.accounting import measure_together
from ground_controller.report.metrics import Metrics
from ground_controller.simulation.run import simulate
from hil_config.schema.bench import Bench, Board
from hil_config.schema.campaign import Policy, Start
from hil_config.schema.load import default_path, load_campaign
from hil_config.schema.orbit import Shell, Station
from hil_config.wire.plan import GatewaySlice

PLANES, PER_PLANE = 24, 22
STATION = Station(name="Singapore", latitude_deg=1.35, longitude_deg=103.8)
ONE_BOARD = "ground_controller.studies.simulated:OneBoard"


@dataclass(frozen=True)
class OneBoard:
    """Everything on the first board; the others stand by with nothing."""

    name: ClassVar[str] = "one_board"

    def place(self, problem: PlacementProblem) -> Placement:
        layers = problem.model.layers
        holders = tuple(tuple((0,) for _ in range(problem.model.experts)) for _ in range(layers))
        return Placement((GatewaySlice(0, layers - 1, (problem.nodes[0],)),), holders, "all on the first board")


class Case(NamedTuple):
    """Boards by the satellite (or station) each stands for, how often every expert is held, and who places."""

    name: str
    satellites: tuple[str, ...]
    replicas: int = 1
    placement: str = "rank_match"


def satellite(plane: int, slot: int) -> str:
    """A satellite of the shell."""
    return f"W-P{plane % PLANES:02d}S{slot % PER_PLANE:02d}"


def prepared_case(case: Case, duration_s: float, seed: int) -> Prepared:
    """Boards cool and charged, so that links and waiting alone tell cases apart; all satellites of the shell relay."""
    demo, count = load_campaign(default_path("campaign")), len(case.satellites)
    stations = tuple(one for one in (STATION,) if one.name in case.satellites)
    shell = Shell(name="W", altitude_km=550.0, inclination_deg=53.0, planes=PLANES, per_plane=PER_PLANE)
    orbit = demo.orbit.model_copy(
        update={
            "satellites": case.satellites, "shells": (shell,), "stations": stations, "duration_s": duration_s,
            "step_s": 20.0, "max_range_km": 5_016.0, "relay": "constellation", "isl": "grid",
        }
    )  # fmt: skip
    campaign = demo.model_copy(
        update={
            "seed": seed, "orbit": orbit, "model": demo.model.model_copy(update={"replicas": case.replicas}),
            "twin": demo.twin.model_copy(update={"start": (Start(temperature_c=40.0, charge=0.9),) * count}),
            "policies": demo.policies.model_copy(update={"placement": Policy(name=case.placement)}),
        }
    ).with_selection("topk")  # fmt: skip
    boards = tuple(Board(name=f"n{i}", profile="raspberry-pi-5") for i in range(count))
    return prepare(Bench(bench="study", boards=boards), campaign)


def run_cases(
    cases: Sequence[Case], seeds: Sequence[int], duration_s: float, told: Callable[[str], None]
) -> dict[str, list[tuple[Prepared, Metrics]]]:
    """Every case under every seed, by name of the case."""
    with tempfile.TemporaryDirectory() as name:
        ran: list[tuple[str, Prepared, Path]] = []
        for case in cases:
            told(case.name)
            for seed in seeds:
                prepared, folder = prepared_case(case, duration_s, seed), Path(name) / f"{len(ran)}"
                simulate(prepared, folder)
                ran.append((case.name, prepared, folder))
        found: dict[str, list[tuple[Prepared, Metrics]]] = {}
        for (which, prepared, _), metrics in zip(ran, measure_together([one[2] for one in ran]), strict=True):
            found.setdefault(which, []).append((prepared, metrics))
        return found
