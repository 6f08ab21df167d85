"""Whether a run can be steered still, and how soon: as its record and its lock tell."""

from __future__ import annotations

import json
from pathlib import Path

from ground_controller.journal import NAME as JOURNAL
from ground_controller.journal import Journal
from ground_controller.run_lock import is_held
from hil_config.errors import UsageError


def tick_s(folder: Path) -> float:
    """Host seconds from one look of the run's controller at what it is asked to the next."""
    journal = Journal.read(folder, watch=True)
    try:
        return float(json.loads(journal.meta("campaign"))["control"]["tick_s"])
    finally:
        journal.close()


def refuse_unsteerable(folder: Path) -> None:
    """Nothing while somebody runs the run in `folder`.

    Raises:
        UsageError: it has ended (when, and how far it came), its controller died, or it is a simulation.
        InvalidRunError: its journal cannot be read.
    """
    if not (folder / JOURNAL).exists():
        raise UsageError(f"{folder}: no run is under way there", "name the folder of a running campaign: runs/NAME")
    held = is_held(folder)  # asked before the record, whose end comes first
    journal = Journal.read(folder, watch=True)
    try:
        ended, lost = journal.meta("ended_utc", ""), journal.meta("inbox_overflow", "0")
        last, simulated = journal.newest("tick", 1 << 62, 1), journal.meta("simulated", "")
        duration_s = float(json.loads(journal.meta("campaign"))["orbit"]["duration_s"]) if ended or last else 0.0
    finally:
        journal.close()
    at_s = min(last[0][1].scenario_s, duration_s) if last else 0.0
    came = f"after {at_s:.0f} of {duration_s:.0f} s of its orbit"
    if ended:
        invalid = "" if lost == "0" else f"; {lost} arrivals were lost, so it is not valid"
        raise UsageError(f"{folder}: this run ended at {ended}, {came}{invalid}", f"hil report {folder}")
    if not held and last:
        raise UsageError(
            f"{folder}: this run has no controller any more: it stopped {came}, with no end on record",
            f"hil campaign resume {folder}",
        )
    if not held:
        raise UsageError(f"{folder}: its controller ended before the first tick", "run the campaign again")
    if simulated:
        raise UsageError(f"{folder}: a simulated run takes no orders", "steer a run on agents: hil campaign run")
