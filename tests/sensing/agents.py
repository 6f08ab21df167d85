"""Agents as processes, and the supervisor that they report to. Not a test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.inbox import Inbox
from hil_config.wire import messages as m
from tests.conftest import Address

WAIT_S = 60.0


def agent_file(folder: Path, broker: Address, shards: Path, **changes: Any) -> Path:
    fields = {
        "node": "alpha", "bench": folder.name.replace("_", "-"), "broker_host": broker.host,
        "broker_port": broker.port, "data_host": "127.0.0.1", "data_port": 0, "shards": str(shards),
        "spool": str(folder / "spool"), "sysfs_root": str(folder / "tree"),
        "power_model": {"profile": "raspberry-pi-4b", "idle_w": 2.7, "per_core_w": 0.925, "cores": 4, "cpu_scale": 4.0},
        **changes,
    }  # fmt: skip
    path = folder / "agent.json"
    path.write_text(json.dumps(fields))
    return path


class Supervisor:
    """The end of NOTIFY_SOCKET that systemd has: it hears what the service says."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(WAIT_S)
        self.heard: list[str] = []

    def wait_for(self, line: str) -> None:
        while line not in self.heard:
            self.heard += self._socket.recv(4096).decode().splitlines()

    def close(self) -> None:
        self._socket.close()


def start(path: Path, supervisor: Supervisor, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "node_agent.cli", "run", "--config", str(path)], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "NOTIFY_SOCKET": supervisor.path, "WATCHDOG_USEC": "600000", **environment},
    )  # fmt: skip


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
    process.send_signal(number)
    _, errors = process.communicate(timeout=WAIT_S)
    return errors


def bench_of(path: Path) -> str:
    return str(json.loads(path.read_text())["bench"])


def ask(path: Path, broker: Address, body: Any) -> m.CommandReply:
    """One command to the agent of `path`, as the controller sends it."""
    fleet = MqttFleet(bench_of(path), 5, Inbox())
    fleet.start(broker.host, broker.port)
    try:
        fleet.wait_online(("alpha",), WAIT_S)
        return fleet.ask(("alpha",), {"alpha": body}, WAIT_S)["alpha"]
    finally:
        fleet.stop()
