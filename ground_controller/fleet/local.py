"""Processes of a local bench: the private broker and one agent per board, started, watched and ended here."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ground_controller.fleet.tether import tethered
from ground_controller.fleet.tool import ToolFailed, complaint, run_tool
from hil_config.errors import EnvironmentFault, LinkError


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def check_port_free(host: str, port: int, what: str) -> None:
    """EnvironmentFault if somebody listens there."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise EnvironmentFault(
            f"{what} port {host}:{port}: {error.strerror}",
            f"see who has it: ss -ltnp 'sport = :{port}'; or set the port to 0 for any free one",
        ) from error


class Broker:
    """The private Mosquitto, restarted on the same port if it dies. With `identity` (bench, folder) it speaks TLS.

    `restarted` is called after each restart; `failure` is set when one did not succeed.
    """

    def __init__(
        self, folder: Path, port: int, restarted: Callable[[], None],
        host: str = "127.0.0.1", identity: tuple[str, Path] | None = None,
    ) -> None:  # fmt: skip
        self.host, self.port = host, port
        self.restarts = 0
        self.failure: LinkError | None = None
        self._restarted = restarted
        self._log = folder / "broker.log"
        self._closing = threading.Event()
        words = ["--port", str(port), "--folder", str(folder)]
        if identity is not None:
            words += ["--bench", identity[0], "--identity", str(identity[1]), "--host", host]
        self._recipe: dict[str, Any] = json.loads(run_tool("bench", "broker", "--json", *words))
        self.process = self._start()
        self._watcher = threading.Thread(target=self._watch, name="broker-watch", daemon=True)
        self._watcher.start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                tethered([self._recipe["program"], *self._recipe["arguments"]]),
                env={**os.environ, **self._recipe["environment"]},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LinkError(
                    f"the broker ended at once with code {process.returncode}",
                    f"read {self._log.with_name('mosquitto.log')} and {self._log}",
                )
            try:
                socket.create_connection((self.host, self.port), 0.2).close()
                return process
            except OSError:
                self._closing.wait(0.02)
        process.kill()
        raise LinkError(
            f"the broker does not answer on {self.host}:{self.port}",
            f"read {self._log.with_name('mosquitto.log')} and {self._log}",
        )

    def _watch(self) -> None:
        while not self._closing.is_set():
            self.process.wait()
            if self._closing.is_set():
                return
            self.restarts += 1
            try:
                self.process = self._start()
            except LinkError as error:
                self.failure = error  # raised by whoever runs the campaign
                return
            self._restarted()

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        self._closing.set()
        self.process.terminate()
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._watcher.join(5.0)


class LocalAgents:
    """Agent processes of this machine, by node name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, node: str, config: dict[str, Any]) -> None:
        """Start one agent with `config` (the fields of the agent's configuration file)."""
        path = self._folder / f"{node}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=1))
        with (self._folder / f"{node}.log").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                tethered([sys.executable, "-m", "node_agent.cli", "run", "--config", str(path)]),
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def write_pids(self, path: Path, broker: int | None) -> None:
        pids = {node: p.pid for node, p in self.processes.items()}
        pids |= {} if broker is None else {"broker": broker}
        path.write_text(json.dumps(pids, indent=1) + "\n")

    def check(self) -> None:
        """An agent that ended before the run has begun: its own error and exit code."""
        for node, process in self.processes.items():
            code = process.poll()
            if code is not None:
                lines = (self._folder / f"{node}.log").read_text(errors="replace").strip().splitlines()
                message, hint = complaint("\n".join(lines))
                cause = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
                raise ToolFailed(
                    f"agent {node}: {message or cause}",
                    hint or f"read {self._folder / node}.log",
                    code if code > 0 else LinkError.exit_code,
                )

    def ended(self) -> list[str]:
        return [node for node, process in self.processes.items() if process.poll() is not None]

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ask those still running to end, and end those that do not."""
        deadline = time.monotonic() + timeout_s
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5.0)
