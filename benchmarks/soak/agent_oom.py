"""20 agents killed by the kernel for want of memory while loading: back by themselves, in safe mode when it recurs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dataplane import no_orbit, plan
from benchmarks.telemetry import KilledBroker
from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.inbox import Inbox
from ground_controller.journal import Entry, Journal
from hil_config.wire import topics
from hil_config.wire.manifest import manifest_hash, read_manifest
from hil_config.wire.messages import Watermark
from hil_config.wire.orders import ExpertHolding, Ping, Prepare
from models.build import build_shards
from models.locate import reference_checkpoint

NODE, BENCH = "small", "memory"
KILLS, LOOP = 20, 3
SPARE_BYTES = 8 << 20
"""What the kernel allows beyond the idle agent's own pages; the shards at fp32 take more."""
CGROUPS = Path("/sys/fs/cgroup/memory")
WAIT_S = 60.0


class Committer(threading.Thread):
    """The ground's half of telemetry: commits what comes and says up to where."""

    def __init__(self, fleet: MqttFleet, inbox: Inbox, journal: Journal) -> None:
        super().__init__(daemon=True)
        self._fleet, self._inbox, self._journal = fleet, inbox, journal
        self.stopping = threading.Event()

    def run(self) -> None:
        tick = 0
        while not self.stopping.wait(0.1):
            tick += 1
            self._journal.commit([Entry(tick, 0.0, *a[:6]) for a in self._inbox.drain() if a.seq])
            for (node, boot_id), seq in self._journal.watermarks().items():
                self._fleet.publish(node, topics.WATERMARK, Watermark(node=node, boot_id=boot_id, seq=seq, epoch=1))


class Board:
    """An agent in a memory cgroup of its own, started again whenever it has died, as systemd would."""

    def __init__(self, folder: Path, port: int, fleet: MqttFleet) -> None:
        self._fleet = fleet
        self.group = CGROUPS / f"hil-soak-{os.getpid()}"
        self.group.mkdir()
        self._config = folder / "agent.json"
        fields = {
            "node": NODE, "bench": BENCH, "broker_host": "127.0.0.1", "broker_port": port, "data_host": "127.0.0.1",
            "data_port": 0, "shards": str(folder / "shards"), "spool": str(folder / "spool"),
            "power_model": {"profile": "raspberry-pi-4b", "idle_w": 2.7, "per_core_w": 0.9, "cores": 4, "cpu_scale": 4},
        }  # fmt: skip
        self._config.write_text(json.dumps(fields))
        self._log = (folder / "agent.log").open("ab")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        enter = f'echo $$ > {self.group}/cgroup.procs && exec "$@"'
        return subprocess.Popen(
            ["/bin/sh", "-c", enter, "sh", sys.executable, "-m", "node_agent.cli", "run", "--config",
             str(self._config)],
            stderr=self._log,
        )  # fmt: skip

    def limit(self, spare_bytes: int) -> None:
        """-1: none."""
        stat = dict(line.split() for line in (self.group / "memory.stat").read_text().splitlines())
        limit = -1 if spare_bytes < 0 else int(stat["rss"]) + spare_bytes
        (self.group / "memory.limit_in_bytes").write_text(str(limit))

    def wait_online(self, earlier: str) -> str:
        """Its new boot id."""
        deadline, pause = time.monotonic() + WAIT_S, threading.Event()
        while time.monotonic() < deadline:
            status = self._fleet.statuses.get(NODE)
            if status is not None and status.boot_id != earlier and status.state != "offline":
                return status.boot_id
            pause.wait(0.02)
        raise AssertionError("the agent did not come back")

    def restart(self) -> float:
        """Start it again; seconds until the ground knows."""
        self.limit(-1)
        begin_s, earlier = time.monotonic(), self._fleet.statuses[NODE].boot_id
        self.process = self._start()
        self.wait_online(earlier)
        return time.monotonic() - begin_s

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(WAIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()
        self._log.close()
        self.group.rmdir()


def _order(shards: Path) -> Prepare:
    """Everything there is, at fp32."""
    manifest = read_manifest(shards)
    card = manifest.model
    held = tuple(ExpertHolding(layer, e, "fp32") for layer in range(card.layers) for e in range(card.experts))
    schedule = no_orbit((NODE,))
    return Prepare(
        run="memory", peers=(), manifest_sha256=manifest_hash(manifest), trunk_layers=tuple(range(card.layers)),
        experts=held, schedule=schedule, schedule_sha256=hashlib.sha256(schedule).hexdigest(), satellites={},
        delay_scale=1.0, hidden_codec="fp32", expert_timeout_s=1.0, plan=plan(card, (NODE,), (NODE,), (NODE,), 1),
    )  # fmt: skip


def _kill_by_loading(board: Board, fleet: MqttFleet, order: Prepare) -> None:
    board.limit(SPARE_BYTES)
    threading.Thread(target=fleet.ask, args=((NODE,), {NODE: order}, 5.0), daemon=True).start()
    code = board.process.wait(WAIT_S)
    assert code == -9, f"the agent ended with {code}, not by the kernel"


def _programme(board: Board, fleet: MqttFleet, order: Prepare) -> str:
    board.wait_online("")
    back_s: list[float] = []
    safe = 0
    for kill in range(1, KILLS + 1):
        _kill_by_loading(board, fleet, order)
        back_s.append(board.restart())
        if kill % LOOP == 0:
            reply: Any = fleet.ask((NODE,), {NODE: order}, WAIT_S)[NODE]
            assert not reply.ok, reply
            assert "crashes" in reply.error, reply
            assert fleet.ask((NODE,), {NODE: Ping()}, WAIT_S)[NODE].ok
            safe += 1
            board.stop()  # whoever looked into it stops it cleanly
            board.restart()
    return (
        f"{KILLS} kills by the kernel: back after {np.median(back_s):.1f} s (median), {max(back_s):.1f} s at most; "
        f"{safe} times in safe mode after {LOOP} in a row"
    )


def run() -> None:
    """About three minutes. Needs root and version 1 of memory cgroups."""
    if os.geteuid() or not (CGROUPS / "memory.limit_in_bytes").exists():
        print("left out: it needs root and a memory cgroup (version 1) to set a limit in")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_shards(reference_checkpoint(), folder / "shards", ("fp32",))
        broker, inbox, journal = KilledBroker(folder), Inbox(), Journal.create(folder / "run")
        fleet = MqttFleet(BENCH, 1, inbox)
        fleet.start("127.0.0.1", broker.port)
        committer = Committer(fleet, inbox, journal)
        committer.start()
        board = Board(folder, broker.port, fleet)
        try:
            print(_programme(board, fleet, _order(folder / "shards")), flush=True)
            _all_handed_in(folder / "spool")
        finally:
            board.close()
            committer.stopping.set()
            committer.join()
            fleet.stop()
            broker.stop()
        seqs: dict[str, list[int]] = {}
        for entry in journal.entries():
            if entry.seq:
                seqs.setdefault(entry.boot_id, []).append(entry.seq)
        journal.close()
        lost = sum(max(each) - len(set(each)) for each in seqs.values())
        print(f"{sum(map(len, seqs.values()))} records of {len(seqs)} starts, {lost} lost", flush=True)
        assert lost == 0


def _all_handed_in(spool: Path) -> None:
    """Until nothing of an earlier start is left on the card."""
    deadline, pause = time.monotonic() + WAIT_S, threading.Event()
    while len([path for path in spool.glob(f"{NODE}-*") if path.is_dir()]) > 1:
        assert time.monotonic() < deadline, "earlier starts still have something to hand in"
        pause.wait(0.1)
