"""One cell of a sweep, in whatever process it is: simulate, measure, keep the figures."""

from __future__ import annotations

import platform
import tempfile
import time
import traceback
from pathlib import Path
from typing import get_args

import msgspec

from ground_controller.preparation import prepare
from ground_controller.report.metrics import Metrics, measure
from ground_controller.report.requirements import figure, source
from ground_controller.simulation.board_model import decode_calibration
from ground_controller.simulation.run import simulate
from ground_controller.software import software
from ground_controller.sweep.cells import SweepCell
from hil_config.errors import EnvironmentFault, HilError
from hil_config.schema.bench import Bench
from hil_config.schema.campaign import Campaign
from hil_config.schema.requirements import PerNode, Spread, Statistic, Whole, statistics_of

LAST_LINES = 6
CLOCK = "measured: clock of the process that calculated"
TIMED = ("decide_ms",)
"""The controller's own times that a simulated run really takes. On its stepped clock no tick is late."""


class CellResult(msgspec.Struct, frozen=True):
    """What came of a cell. `figures`: `tpot_ms p50` and so on, None where the run does not give one; `sources`: where
    each is from. `error` empty where it went well. `wall_s` on `host`: measured, of the process that calculated."""

    key: str
    error: str
    figures: dict[str, float | None] = {}
    sources: dict[str, str] = {}
    provenance: str = ""
    wall_s: float = 0.0
    host: str = ""


FIGURES: tuple[tuple[str, Statistic], ...] = tuple(
    (metric, statistic)
    for metric in (*get_args(Whole), *get_args(Spread), *get_args(PerNode))
    for statistic in statistics_of(metric)
)
"""Everything that a campaign can require."""


def column_of(metric: str, statistic: str) -> str:
    """`tpot_ms_p50`, `tokens`."""
    return metric if statistic == "value" else f"{metric}_{statistic}"


def run_cell(cell: SweepCell) -> CellResult:
    """Never raises: what goes wrong is the result. The run folder is not kept."""
    begin_s = time.perf_counter()
    try:
        metrics = _simulated(cell)
    except HilError as error:
        told = f"{type(error).__name__}: {error.message}" + (f" (hint: {error.hint})" if error.hint else "")
        return CellResult(cell.key, told, wall_s=time.perf_counter() - begin_s, host=platform.node())
    except Exception:  # a defect in one cell must not take the others with it; it is recorded, and shown
        lines = traceback.format_exc().strip().splitlines()[-LAST_LINES:]
        return CellResult(cell.key, "\n".join(lines), wall_s=time.perf_counter() - begin_s, host=platform.node())
    figures: dict[str, float | None] = {}
    sources: dict[str, str] = {}
    for metric, statistic in FIGURES:
        name = column_of(metric, statistic)
        figures[name] = figure(metric, statistic, metrics)
        sources[name] = CLOCK if metric in TIMED else source(metric, metrics)
    wall_s = time.perf_counter() - begin_s
    return CellResult(cell.key, "", figures, sources, metrics.provenance, wall_s, platform.node())


def _simulated(cell: SweepCell) -> Metrics:
    here = software().version
    if here != cell.release:
        raise EnvironmentFault(
            f"{platform.node()}: runs release {here}, the sweep was planned by {cell.release}",
            "install the same release on every worker",
        )
    prepared = prepare(Bench.model_validate_json(cell.bench), Campaign.model_validate_json(cell.campaign))
    calibration = decode_calibration(cell.calibration)
    with tempfile.TemporaryDirectory(prefix="hil-sweep-") as folder:
        home = Path(folder) / "run"
        simulate(prepared, home, calibration, cell.stride)
        return measure(home)
