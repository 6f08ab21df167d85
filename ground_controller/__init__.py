"""The ground side: schedules, twin, policies, control loop, record and report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from ground_controller.run_data import RunData


def load_run(path: str | PathLike[str]) -> RunData:
    """A run folder as data frames: `load_run("runs/RUN").pandas("tokens")`.

    Raises:
        InvalidRunError: it is no run folder, or one that this release does not read.
    """
    from pathlib import Path

    from ground_controller.run_data import RunData

    return RunData(Path(path))
