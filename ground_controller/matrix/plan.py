"""The plan of a matrix on disk: everything that is needed to go on after whatever happened."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from ground_controller.matrix.order import Cell
from hil_config.durable_file import write_durably
from hil_config.errors import EnvironmentFault, InvalidRunError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.matrix import Matrix

NAME = "matrix.json"
VERSION = 1
Kind = Literal["boards", "model nodes"]


class Simulated(msgspec.Struct, frozen=True):
    """How model nodes calculate: see `hil simulate`."""

    calibration: str = ""
    stride: int = 1


class Plan(msgspec.Struct, frozen=True):
    """`bench`, `campaigns` (by variant) and `matrix` as their JSON; `cells` in the order in which they run."""

    version: int
    campaign: str
    kind: Kind
    simulated: Simulated
    bench: str
    campaigns: dict[str, str]
    labels: dict[str, dict[str, str]]
    matrix: str
    cells: tuple[Cell, ...]

    def bench_of(self) -> Bench:
        return Bench.model_validate_json(self.bench)

    def matrix_of(self) -> Matrix:
        return Matrix.model_validate_json(self.matrix)

    def campaign_of(self, cell: Cell) -> Campaign:
        """What a cell runs."""
        return Campaign.model_validate_json(self.campaigns[cell.variant]).model_copy(update={"seed": cell.seed})


def write_plan(folder: Path, plan: Plan) -> None:
    """Whole, or not at all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / NAME, msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")
    except OSError as error:
        raise EnvironmentFault(f"{folder / NAME}: {error.strerror}", "check free space and permissions") from error


def is_matrix(folder: Path) -> bool:
    """Whether a folder is that of a matrix."""
    return (folder / NAME).is_file()


def read_plan(folder: Path) -> Plan:
    """The plan in `folder`; InvalidRunError if there is none, or it is of another version."""
    path = folder / NAME
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise InvalidRunError(f"{path}: {error.strerror}", "give the folder of a campaign with a matrix") from error
    except ValueError as error:
        raise InvalidRunError(f"{path}: {error}", "the file was changed by hand, or is of another release") from error
    if plan.version != VERSION:
        raise InvalidRunError(f"{path}: version {plan.version}, this release reads {VERSION}")
    return plan
