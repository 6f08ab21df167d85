"""Simulated campaigns: times real time with 16 and with 1,056 satellites."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from ground_controller.journal import Journal
from ground_controller.loop import TickBegan
from ground_controller.preparation import Prepared, prepare
from ground_controller.simulation.run import Speed, simulate
from hil_config.schema.bench import Bench, Board
from hil_config.schema.campaign import Campaign, Start
from hil_config.schema.load import default_path, load_campaign
from hil_config.schema.orbit import Shell


def constellation(planes: int, per_plane: int, duration_s: float, step_s: float, replicas: int) -> Prepared:
    """A Walker shell with a board a satellite; link delays and eclipses compiled, the reference model on it."""
    count = planes * per_plane
    shell = Shell(name="WALKER", altitude_km=550.0, inclination_deg=53.0, planes=planes, per_plane=per_plane)
    names = tuple(f"WALKER-P{p:02d}S{s:02d}" for p in range(planes) for s in range(per_plane))
    demo = load_campaign(default_path("campaign"))
    orbit = demo.orbit.model_copy(
        update={
            "satellites": names, "shells": (shell,), "duration_s": duration_s, "step_s": step_s,
            "max_range_km": 5_016.0, "relay": "mapped" if count <= 64 else "constellation",
            "isl": "in_range" if count <= 64 else "grid",
        }
    )  # fmt: skip
    campaign: Campaign = demo.model_copy(
        update={
            "orbit": orbit, "model": demo.model.model_copy(update={"replicas": replicas}),
            "twin": demo.twin.model_copy(update={"start": (Start(temperature_c=45.0, charge=0.7),) * count}),
            "control": demo.control.model_copy(update={"tick_s": 2.0}),
        }
    )  # fmt: skip
    boards = tuple(Board(name=f"n{i}", profile="local-process") for i in range(count))
    return prepare(Bench(bench="walker", boards=boards), campaign)


def _decide_us(folder: Path) -> float:
    """Median time of a decision, from draining the inbox to the decision on record."""
    journal = Journal.read(folder)
    try:
        ticks = [msgspec.json.decode(entry.body, type=TickBegan) for entry in journal.entries("tick")]
    finally:
        journal.close()
    return statistics.median(tick.decide_us for tick in ticks[1:])  # each names that of the tick before


def _show(name: str, speed: Speed) -> None:
    print(
        f"{name}: {speed.scenario_s:g} s of orbit in {speed.wall_s:.2f} s: {speed.times_real_time:.0f} x the orbit's,"
        f" {speed.times_processor_time:.0f} x by processor time; {speed.host_s / speed.wall_s:.1f} x the modelled"
        f" host's; {speed.tokens} tokens in detail", flush=True,
    )  # fmt: skip


def run() -> None:
    """HIL_BENCH_SATELLITES=1056 adds the large one."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = constellation(4, 4, 5_700.0, 60.0, 2)
        for stride in (1, 10, 100):
            _show(f"16 satellites, stride {stride}", simulate(prepared, Path(folder) / f"s{stride}", stride=stride))
        if os.environ.get("HIL_BENCH_SATELLITES") == "1056":
            begin_s, began_cpu_s = time.perf_counter(), time.process_time()
            large = constellation(33, 32, 600.0, 60.0, 2)
            wall_s, cpu_s = time.perf_counter() - begin_s, time.process_time() - began_cpu_s
            print(
                f"1,056 satellites, prepared in {wall_s:.1f} s ({cpu_s:.1f} s of a processor): "
                f"{len(large.schedule.arrays.links):,} changes of links, {len(large.schedule_bytes) / 1e6:.0f} MB",
                flush=True,
            )
            speed = simulate(large, Path(folder) / "large", stride=10)
            _show("1,056 satellites, stride 10", speed)
            print(
                f"1,056 satellites: run in {speed.wall_s:.1f} s ({speed.cpu_s:.1f} s of a processor), median decision "
                f"{_decide_us(Path(folder) / 'large') / 1e3:.1f} ms", flush=True,
            )  # fmt: skip
