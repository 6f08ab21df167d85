"""A run on boards or local agents goes on after its controller died: from its journal, under a higher epoch.

What had ended is not done again, what was under way goes on from its last recorded token, what agents had numbered
comes in from their spools. Boards that lived on are found where they are; local agents died with the controller and
are started anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ground_controller.campaign import Progress, Run
from ground_controller.journal import Journal
from ground_controller.mixed import META as MIXED
from ground_controller.past import recall
from ground_controller.preflight.inputs import space
from ground_controller.preflight.nodes import refuse_unready
from ground_controller.replay import prepare_again
from ground_controller.run_lock import RunLock
from ground_controller.run_record import system_boot
from ground_controller.stage import PIDS, Stage
from ground_controller.steering import forget_requests
from hil_config.errors import EnvironmentFault, UsageError

GONE_S = 15.0
"""Agents and broker of a controller that died have been told by the kernel to end; this is how long they may take."""


def resume_campaign(folder: Path, show: Callable[[Progress], None], take_over: bool = False) -> None:
    """Bring an interrupted run to its end, in its folder.

    Args:
        take_over: the bench from a controller that is not heard any more.

    Raises:
        UsageError: it has ended, died before its first tick, or this machine was started again since.
        EnvironmentFault: another process runs it, something that it started is still there, or the disk is full.
        SafetyRefusal: another controller commands the bench.
        InvalidRunError: its inputs or its record are not those it began with.
    """
    with ExitStack() as opened:
        journal = Journal.reopen(folder)
        opened.callback(journal.close)
        if journal.meta("ended_utc", ""):
            raise UsageError(f"{folder}: this run has ended", f"hil report {folder}")
        if journal.meta(MIXED, ""):
            raise UsageError(
                f"{folder}: it had model boards beside real ones, whose state died with their process",
                f"hil report {folder}, and run the campaign again",
            )
        opened.callback(RunLock(folder).release)
        _check_machine(journal, folder)
        _wait_until_gone(folder)
        prepared = prepare_again(journal)
        journal.recall_watermarks()
        past = recall(journal, prepared)
        refuse_unready((space(prepared, folder, past.at_s),))
        forget_requests(folder)
        stage = Stage(prepared, folder)
        opened.callback(stage.close)
        stage.take_command(past.core.epoch, take_over)
        run = Run(prepared, stage, journal, folder, show)
        opened.callback(run.close)
        run.go_on(past)


def _check_machine(journal: Journal, folder: Path) -> None:
    then = journal.meta("system_boot", "")
    if then != system_boot():
        raise UsageError(
            f"{folder}: this machine was started again since the run began, and with it the clock of its record;"
            " what was recorded is kept",
            f"hil report {folder}, and run the campaign again",
        )


def _wait_until_gone(folder: Path) -> None:
    """Until nothing that the dead controller started works in this folder any more."""
    deadline = time.monotonic() + GONE_S
    while left := _left(folder):
        if time.monotonic() > deadline:
            name, pid = next(iter(left.items()))
            raise EnvironmentFault(
                f"{folder}: {name} of this run is still there (process {pid}), although its controller is gone",
                f"end it: kill {pid}",
            )
        time.sleep(0.1)


def _left(folder: Path) -> dict[str, int]:
    """Processes of the run that live: those whose command line names the folder, since numbers are used again."""
    try:
        pids: dict[str, int] = json.loads((folder / PIDS).read_text())
    except (OSError, ValueError):
        return {}
    return {name: pid for name, pid in pids.items() if pid != os.getpid() and _works_in(pid, folder)}


def _works_in(pid: int, folder: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return any(str(folder) in word for word in words)
