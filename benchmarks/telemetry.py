"""Telemetry under load: light agents, one Mosquitto, the controller's inbox and journal; what a record costs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.light_agents import BENCH
from firmware_tools.broker import Recipe, prepare_broker
from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.inbox import Inbox
from ground_controller.journal import Entry, Journal
from hil_config.wire import topics
from hil_config.wire.messages import Watermark

TICK_S = 0.5


class Outcome(NamedTuple):
    """Records numbered by the nodes, committed, lost; second arrivals recognised; processor seconds by part.

    `start_s` is what the agents took to start and connect; it is in no record's share.
    """

    numbered: int
    committed: int
    missing: int
    duplicates: int
    kills: int
    start_s: float
    agents_s: float
    controller_s: float
    broker_s: float
    wall_s: float

    @property
    def per_record_ms(self) -> float:
        return (self.agents_s + self.controller_s + self.broker_s) / max(1, self.committed) * 1e3


class KilledBroker:
    """A private Mosquitto that can be killed and comes back on its port."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = int(server.getsockname()[1])
        self._recipe: Recipe = prepare_broker(self.port, folder)
        self.cpu_s = 0.0
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [self._recipe.program, *self._recipe.arguments], env={**os.environ, **self._recipe.environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        pause = threading.Event()
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return process
            except OSError:
                pause.wait(0.02)
        raise AssertionError(f"the broker does not come up: exit code {process.poll()}")

    def spent_s(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return self.cpu_s + float(times.user + times.system)

    def kill(self) -> None:
        """SIGKILL, and start again at once."""
        self.cpu_s = self.spent_s()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = self._start()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10.0)


def load(agents: int, hz: float, records: int, processes: int, kills: int = 0) -> Outcome:
    """Let `agents` write `records` each at `hz`, kill the broker `kills` times meanwhile, and count what arrived."""
    with tempfile.TemporaryDirectory() as name:
        return _load(Path(name), agents, hz, records, processes, kills)


def _load(folder: Path, agents: int, hz: float, records: int, processes: int, kills: int) -> Outcome:
    broker = KilledBroker(folder)
    inbox, journal = Inbox(), Journal.create(folder / "run")
    fleet = MqttFleet(BENCH, 1, inbox)
    begin_s, begin_cpu_s = time.monotonic(), time.process_time()
    fleet.start("127.0.0.1", broker.port)
    each = agents // processes
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.light_agents", str(folder / "spool"), str(broker.port), str(n * each),
             str(each), str(hz), str(records)],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
        )
        for n in range(processes)
    ]  # fmt: skip
    pause = threading.Event()
    duplicates, killed, tick = 0, 0, 0
    next_kill_s = begin_s + 3.0
    while any(child.poll() is None for child in children):
        pause.wait(TICK_S)
        tick += 1
        arrivals = [a for a in inbox.drain() if a.seq]
        fresh = journal.commit([Entry(tick, 0.0, *arrival[:6]) for arrival in arrivals])
        duplicates += len(arrivals) - len(fresh)
        for (node, boot_id), seq in journal.watermarks().items():
            fleet.publish(node, topics.WATERMARK, Watermark(node=node, boot_id=boot_id, seq=seq))
        if killed < kills and time.monotonic() > next_kill_s:
            broker.kill()
            killed, next_kill_s = killed + 1, time.monotonic() + records / hz / (kills + 1)
    told = [json.loads(child.communicate()[0]) for child in children]
    fleet.stop()
    controller_s, broker_s, wall_s = time.process_time() - begin_cpu_s, broker.spent_s(), time.monotonic() - begin_s
    broker.stop()
    committed = sum(1 for entry in journal.entries() if entry.seq)
    distinct = len({(e.node, e.boot_id, e.seq) for e in journal.entries() if e.seq})
    assert committed == distinct, "a record is counted twice"
    journal.close()
    numbered = sum(one["numbered"] for one in told)
    start_s, agents_s = (sum(one[key] for one in told) for key in ("start_s", "cpu_s"))
    return Outcome(
        numbered, committed, numbered - committed, duplicates, killed, start_s, agents_s, controller_s, broker_s, wall_s
    )


def describe(outcome: Outcome) -> str:
    """One line with everything."""
    o = outcome
    return (
        f"{o.numbered} records, {o.missing} lost, {o.duplicates} second arrivals, {o.kills} broker kills; "
        f"{o.per_record_ms:.3f} ms CPU a record (agents {o.agents_s:.1f} s, controller "
        f"{o.controller_s:.1f} s, broker {o.broker_s:.1f} s; besides them the agents' start {o.start_s:.1f} s; "
        f"wall {o.wall_s:.0f} s)"
    )


def run() -> None:
    """200 agents for 20 s: one record a reading at 10 Hz, then one a second as the agent sends them."""
    print(f"200 agents x 10 Hz, a record a reading: {describe(load(200, 10.0, 200, 4))}", flush=True)
    print(f"200 agents x 1 Hz, a record a second:   {describe(load(200, 1.0, 20, 4))}", flush=True)
