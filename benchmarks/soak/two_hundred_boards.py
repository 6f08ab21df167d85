"""200 boards at 10 Hz for ten minutes through broker, controller and store; then the run is opened and reported."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.light_agents import BENCH, LightAgent
from ground_controller.campaign import Run
from ground_controller.fleet.local import free_port
from ground_controller.journal import Journal
from ground_controller.preparation import Prepared, prepare
from ground_controller.report.page import report_run
from ground_controller.stage import Stage
from ground_controller.telemetry.export import export_run
from hil_config.schema.bench import Bench, Board
from hil_config.schema.campaign import Campaign, Start
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.schema.orbit import Shell
from hil_config.wire import topics
from hil_config.wire.messages import Command, CommandReply, Quantity, Record, SampleBatch, Status, Watermark, decode
from hil_config.wire.orders import Finish
from hil_config.wire.provenance import fake
from node_agent import VERSION
from node_agent.crew import Crew

BOARDS, PROCESSES, HZ = 200, 4, 10
SECONDS = 600.0
PLANES, EACH = 20, 10
SENSOR = fake("synthetic sensor of the telemetry soak")
QUANTITIES = tuple(
    Quantity(name, unit, float(HZ), SENSOR)
    for name, unit in (("power_w", "W"), ("temperature_c", "C"), ("cpu_percent", "%"), ("memory_mb", "MB"))
)


class StandIn(LightAgent):
    """The telemetry of an agent, and its answers to orders; it serves nothing and nobody asks it to."""

    finished = False

    def status(self) -> Status:
        return Status(
            node=self.node, boot_id=self.boot, state="online", agent_version=VERSION, data_address="127.0.0.1:9",
            quantities=QUANTITIES, last_seq=self.spool.last_seq,
        )  # fmt: skip

    def _take(self, row: object, message: Any) -> None:
        if isinstance(message, Watermark):
            self.evidence.committed(message)
        elif isinstance(message, Command):
            self.finished |= isinstance(message.body, Finish)
            now_ns = time.monotonic_ns()
            self.link.publish(topics.REPLY, CommandReply(
                id=message.id, node=self.node, boot_id=self.boot, ok=True, mono_ns=now_ns, received_mono_ns=now_ns,
                last_seq=self.spool.last_seq,
            ))  # fmt: skip

    def batch(self) -> None:
        """One second of readings."""
        now_ns, period_ns = time.monotonic_ns(), 10**9 // HZ
        times = tuple(now_ns - (HZ - 1 - i) * period_ns for i in range(HZ))
        watts = tuple(4.0 + 0.1 * ((now_ns // 10**9 + i) % 7) for i in range(HZ))
        level: dict[str, tuple[float | None, ...]] = {
            "power_w": watts, "temperature_c": (48.25,) * HZ, "cpu_percent": (12.5,) * HZ, "memory_mb": (92.0,) * HZ,
        }  # fmt: skip
        self.evidence.put(SampleBatch(times, level))


def stand_in(folder: Path, port: int, first: int, count: int) -> dict[str, float]:
    """`count` of them in this process until the controller says that the run is over; CPU seconds and records."""
    crew = Crew()
    agents = [StandIn(folder, port, _name(first + i), "b1", crew) for i in range(count)]
    pause, begun_s = threading.Event(), time.process_time()
    due_s = time.monotonic()
    while not all(agent.finished for agent in agents):
        pause.wait(max(0.0, due_s - time.monotonic()))
        for agent in agents:
            if not agent.finished:
                agent.batch()
        due_s += 1.0
    deadline = time.monotonic() + 60.0
    while any(agent.evidence.waiting for agent in agents) and time.monotonic() < deadline:
        pause.wait(0.1)
    spent_s, numbered = time.process_time() - begun_s, sum(agent.spool.last_seq for agent in agents)
    for agent in agents:
        agent.link.stop()
    crew.dismiss()
    return {"cpu_s": spent_s, "numbered": numbered}


def _name(number: int) -> str:
    return f"board{number:03d}"


class Standing(Stage):
    """The bench's agents are there already."""

    def __init__(self, prepared: Prepared, folder: Path) -> None:
        super().__init__(prepared, folder)
        self.local = ()

    def broker_s(self) -> float:
        """CPU seconds of the broker so far."""
        assert self._broker is not None
        times = psutil.Process(self._broker.pid).cpu_times()
        return float(times.user + times.system)


def _inputs(port: int) -> tuple[Bench, Campaign]:
    """A Walker shell of 200 in real time; nobody asks for text."""
    demo, plan = load_bench(default_path("bench")), load_campaign(default_path("campaign"))
    boards = tuple(Board(name=_name(i), profile="local-process") for i in range(BOARDS))
    bench = demo.model_copy(
        update={"bench": BENCH, "boards": boards, "broker": demo.broker.model_copy(update={"port": port})}
    )
    shell = Shell(name="W", altitude_km=550.0, inclination_deg=53.0, planes=PLANES, per_plane=EACH)
    orbit = plan.orbit.model_copy(
        update={
            "satellites": tuple(f"W-P{p:02d}S{s:02d}" for p in range(PLANES) for s in range(EACH)), "shells": (shell,),
            "duration_s": SECONDS, "rate": 1.0, "step_s": 20.0, "relay": "constellation", "isl": "grid",
        }
    )  # fmt: skip
    changes = {
        "orbit": orbit, "model": plan.model.model_copy(update={"replicas": 1}),
        "twin": plan.twin.model_copy(update={"start": (Start(temperature_c=45.0, charge=0.7),) * BOARDS}),
        "workload": plan.workload.model_copy(update={"arrivals": "requests"}),
    }  # fmt: skip
    return bench, plan.model_copy(update=changes)


def run() -> None:
    """About twelve minutes. Raises AssertionError if a record is lost."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        prepared = prepare(*_inputs(port))
        stage = Standing(prepared, folder / "run")
        children: list[subprocess.Popen[str]] = []
        try:
            stage.take_command(0, False)  # the broker is there now
            children += [_start(folder / "spool", port, n) for n in range(PROCESSES)]
            _campaign(prepared, stage, folder / "run", children)
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()


def _start(spool: Path, port: int, part: int) -> subprocess.Popen[str]:
    each = BOARDS // PROCESSES
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak.two_hundred_boards", str(spool), str(port), str(part * each),
         str(each)],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def _campaign(prepared: Prepared, stage: Standing, folder: Path, children: list[subprocess.Popen[str]]) -> None:
    journal = Journal.create(folder)
    work = Run(prepared, stage, journal, folder, lambda progress: None)
    begin_s = time.process_time()
    try:
        work.start()
        controller_s, broker_s = time.process_time() - begin_s, stage.broker_s()
        told = [json.loads(child.communicate(timeout=120.0)[0]) for child in children]
    finally:
        work.close()
        stage.close()
        journal.close()
    _tell(folder, told, controller_s, broker_s)


def _tell(folder: Path, told: list[dict[str, float]], controller_s: float, broker_s: float) -> None:
    journal = Journal.read(folder)
    rows = sum(
        len(body.mono_ns)
        for entry in journal.entries("samples")
        if isinstance(body := decode(entry.body, Record).body, SampleBatch)
    )
    committed = sum(1 for entry in journal.entries() if entry.seq)
    missing = journal.meta("records_missing")
    journal.close()
    numbered = sum(int(one["numbered"]) for one in told)
    size = sum(path.stat().st_size for path in folder.glob("journal.sqlite*"))
    agents_s = sum(one["cpu_s"] for one in told)
    print(
        f"{BOARDS} boards x {HZ} Hz x {SECONDS:.0f} s: {numbered} records numbered, {committed} committed, "
        f"missing {missing}; {rows} readings of {len(QUANTITIES)} quantities; CPU a record: agents "
        f"{agents_s / committed * 1e3:.3f}, broker {broker_s / committed * 1e3:.3f}, controller (all of it) "
        f"{controller_s / committed * 1e3:.3f} ms; journal {size / 1e6:.0f} MB, {size / rows:.0f} bytes/reading",
        flush=True,
    )
    begin_s = time.perf_counter()
    page = report_run(folder).page
    report_s = time.perf_counter() - begin_s
    begin_s = time.perf_counter()
    files = export_run(folder)
    export_s = time.perf_counter() - begin_s
    table = next(path for path in files if path.name == "samples.parquet")
    print(
        f"opened and reported in {report_s:.1f} s (wanted 20), {page.stat().st_size / 1e6:.1f} MB; exported in "
        f"{export_s:.1f} s, {table.stat().st_size / rows:.1f} bytes a reading in Parquet; "
        f"{psutil.Process().memory_info().rss / 1e6:.0f} MB resident",
        flush=True,
    )
    assert missing == "{}"
    assert committed == numbered


if __name__ == "__main__":
    sys.setswitchinterval(0.0005)
    port_, first_, count_ = map(int, sys.argv[2:5])
    print(json.dumps(stand_in(Path(sys.argv[1]), port_, first_, count_)))
