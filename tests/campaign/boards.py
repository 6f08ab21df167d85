"""A bench whose broker and two of whose agents are services of their own, as boards in a laboratory are."""

from __future__ import annotations

import copy
import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from firmware_tools.identity import (
    COMMAND_KEY_FILE,
    COMMAND_PUBLIC_FILE,
    Authority,
    make_command_key,
    write_identity,
    write_private,
)
from ground_controller.journal import NAME
from hil_config.schema.profiles import load_profile
from hil_config.tls import identity_files
from hil_config.wire.manifest import MANIFEST_NAME, read_manifest_bytes
from hil_config.wire.minisign import SIGNATURE_SUFFIX, sign
from models.build import build_shards
from models.locate import reference_checkpoint
from models.sign import new_key
from tests.campaign.conftest import HIL, SHORT, hil, write_files

AWAY = ("bravo", "charlie")


class InService:
    """The bench while its services run. `agents` by name."""

    def __init__(self, home: Path, changes: Mapping[str, Any]) -> None:
        self._home = home
        self._changes = changes
        self.agents: dict[str, subprocess.Popen[bytes]] = {}

    def command(self, run: str, changes: Mapping[str, Any], *options: str) -> list[str]:
        """The arguments of `hil` for a run of SHORT with `changes`, into the folder `run`."""
        campaign = {**copy.deepcopy(SHORT), "orbit.duration_s": 40, **changes}
        bench, plan = write_files(self._home / f"{run}-files", self._changes, campaign)
        return ["campaign", "run", str(bench), str(plan), "--out", str(self._home / run), "--json", *options]

    def run(self, run: str, *options: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        """A run to its end. In `changes`, `__` stands for a dot."""
        return hil(*self.command(run, {key.replace("__", "."): value for key, value in changes.items()}, *options))

    def start(self, stack: ExitStack, run: str, **changes: Any) -> subprocess.Popen[bytes]:
        """A run under way, ended with the stack if it has not by then."""
        told = self.command(run, {key.replace("__", "."): value for key, value in changes.items()})
        return stack.enter_context(running([*HIL, *told], self._home / f"{run}.log"))

    def logs(self) -> str:
        return "".join((self._home / f"{node}.log").read_text()[-1500:] for node in AWAY)


@contextmanager
def in_service(
    home: Path, profile: str = "raspberry-pi-5", away: str = "", roots: Mapping[str, Path] | None = None
) -> Iterator[InService]:
    """Broker and agents of two of four boards, until the end of the block.

    Args:
        profile: a name, or a file's path. away: the same for the two in service, where it differs.
        roots: where /proc and /sys of those two are, if not this machine's own.
    """
    identity, port, data = _identity(home), _free(), {node: _free() for node in AWAY}
    shards, trusted = _shards(home)
    boards = [
        {
            "name": name,
            "profile": (away or profile) if name in AWAY else profile,
            **({"kind": "debian", "data_port": data[name]} if name in AWAY else {}),
        }
        for name in ("alpha", "bravo", "charlie", "delta")
    ]
    bench = InService(
        home, {"identity": str(identity), "broker": {"host": "127.0.0.1", "port": port}, "boards": boards}
    )
    with ExitStack() as stack:
        command, environment = _broker(home / "broker", port, identity)
        stack.enter_context(running(command, home / "broker.log", **environment))
        deadline = time.monotonic() + 20.0
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the broker does not listen"
        for node in AWAY:
            service = _agent(home, node, (port, data[node]), identity, shards, trusted, (roots or {}).get(node))
            bench.agents[node] = stack.enter_context(running(service, home / f"{node}.log"))
        yield bench


def wait_for_decisions(folder: Path, count: int) -> None:
    """Until so many ticks of a run that was just started are in its journal."""
    deadline, pause, found = time.monotonic() + 90.0, threading.Event(), 0
    while found < count:
        assert time.monotonic() < deadline, f"{found} decisions in {folder}"
        pause.wait(0.1)
        if (folder / NAME).exists():
            with closing(sqlite3.connect(f"file:{folder / NAME}?mode=ro", uri=True)) as db:
                try:
                    found = db.execute("SELECT COUNT(*) FROM entry WHERE kind = 'decision'").fetchone()[0]
                except sqlite3.OperationalError:
                    continue  # made a moment ago


def _free() -> int:
    """A port that nobody listens on, below those that the system gives to connections of other tests meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _identity(home: Path) -> Path:
    """A folder as `hil bench init` makes it, with two enrolled boards."""
    folder = home / "identity"
    authority = Authority.create("demo")
    authority.write(folder)
    for name in ("broker", "ground", *AWAY):
        write_identity(folder / name, authority.issue(name))
    private, public = make_command_key()
    write_private(folder / COMMAND_KEY_FILE, private)
    write_private(folder / COMMAND_PUBLIC_FILE, public, 0o644)
    return folder


@contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5.0)


def _broker(home: Path, port: int, identity: Path) -> tuple[list[str], dict[str, str]]:
    home.mkdir()
    told = hil("bench", "broker", "--json", "--port", str(port), "--folder", str(home), "--bench", "demo",
               "--identity", str(identity), "--host", "127.0.0.1")  # fmt: skip
    assert told.returncode == 0, told.stderr
    recipe = json.loads(told.stdout)
    return [recipe["program"], *recipe["arguments"]], recipe["environment"]


def _shards(home: Path) -> tuple[Path, str]:
    """The board's own copy of the model, signed; the key it trusts."""
    built = home / "built"
    build_shards(reference_checkpoint(), built, ("int8",))
    secret = new_key()
    text = sign(secret, read_manifest_bytes(built), "boards in service")
    (built / (MANIFEST_NAME + SIGNATURE_SUFFIX)).write_text(text, encoding="utf-8")
    return built, secret.public.text


def _agent(
    home: Path, node: str, ports: tuple[int, int], identity: Path, shards: Path, trusted: str, root: Path | None
) -> list[str]:
    """The command of a board's service, its configuration as provisioning writes it."""
    files, profile = identity_files(identity / node), load_profile("raspberry-pi-5")
    config: dict[str, Any] = {
        "node": node, "bench": "demo", "broker_host": "127.0.0.1", "broker_port": ports[0], "data_host": "127.0.0.1",
        "data_port": ports[1], "shards": str(shards), "spool": str(home / f"{node}-spool"),
        "trust": {"keys": [trusted], "memory": str(home / f"{node}-memory")},
        "tls": {"ca": files.ca, "certificate": files.certificate, "key": files.key, "crl": files.crl},
        "command_key": str(identity / COMMAND_PUBLIC_FILE),
        "power_model": {"profile": profile.name, "idle_w": profile.idle_w, "per_core_w": profile.per_core_w,
                        "cores": profile.cores, "cpu_scale": profile.cpu_scale},
    }  # fmt: skip
    if root is not None:
        config["sysfs_root"] = str(root)
    path = home / f"{node}.json"
    path.write_text(json.dumps(config))
    return [sys.executable, "-m", "node_agent.cli", "run", "--config", str(path)]
