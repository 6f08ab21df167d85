"""Reports of large runs: 200 boards at 10 Hz for 10 minutes, opened, drawn, exported and loaded as a data frame."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.simulate import constellation
from ground_controller import load_run
from ground_controller.journal import Journal
from ground_controller.preparation import Prepared, prepare
from ground_controller.report.page import report_run
from ground_controller.simulation.run import simulate
from ground_controller.telemetry.export import export_run

AIM_S = 20.0


def two_hundred() -> Prepared:
    """10 minutes of orbit in 10 minutes: 1.2 million samples."""
    found = constellation(20, 10, 600.0, 60.0, 2)
    orbit = found.campaign.orbit.model_copy(update={"rate": 1.0})
    control = found.campaign.control.model_copy(update={"tick_s": 0.5})
    return prepare(found.bench, found.campaign.model_copy(update={"orbit": orbit, "control": control}))


def _timed(name: str, work: Callable[[], object]) -> tuple[float, float]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(f"{name}: {wall_s:.1f} s, {cpu_s:.1f} s of processor time", flush=True)
    return wall_s, cpu_s


def run() -> None:
    """Drawn in this process, and once more by the command, its start included."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "run"
        simulate(two_hundred(), folder)
        journal = Journal.read(folder)
        print(f"{journal.records()} records, {(folder / 'journal.sqlite').stat().st_size / 1e6:.0f} MB", flush=True)
        journal.close()
        wall_s, cpu_s = _timed("report", lambda: report_run(folder))
        print(f"aim of {AIM_S:g} s: {wall_s / AIM_S:.2f} by the clock, {cpu_s / AIM_S:.2f} by processor time")
        _timed("load_run, samples as a data frame", lambda: load_run(folder).pandas("samples"))
        _timed("export to Parquet", lambda: export_run(folder, ("parquet",)))
        begin_s = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "hil_config.door", "report", str(folder)], stdout=subprocess.DEVNULL, check=True
        )
        peak_mb = psutil.Process(os.getpid()).memory_info().rss / 1e6
        print(f"hil report: {time.perf_counter() - begin_s:.1f} s with its start; {peak_mb:.0f} MB here at the end")
