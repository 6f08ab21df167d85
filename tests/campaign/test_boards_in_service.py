"""Boards whose agents are services of their own: a run finds them at the bench's broker, and leaves them running."""

from __future__ import annotations

import copy
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from firmware_tools.identity import (
    COMMAND_KEY_FILE,
    COMMAND_PUBLIC_FILE,
    Authority,
    make_command_key,
    write_identity,
    write_private,
)
from hil_config.schema.profiles import load_profile
from hil_config.tls import identity_files
from hil_config.wire.manifest import MANIFEST_NAME, read_manifest_bytes
from hil_config.wire.minisign import SIGNATURE_SUFFIX, sign
from models.build import build_shards
from models.locate import reference_checkpoint
from models.sign import new_key
from tests.campaign.conftest import SHORT, hil, write_files

AWAY = ("bravo", "charlie")


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


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """A folder as `hil bench init` makes it, with two enrolled boards."""
    folder = tmp_path / "identity"
    authority = Authority.create("demo")
    authority.write(folder)
    for name in ("broker", "ground", *AWAY):
        write_identity(folder / name, authority.issue(name))
    private, public = make_command_key()
    write_private(folder / COMMAND_KEY_FILE, private)
    write_private(folder / COMMAND_PUBLIC_FILE, public, 0o644)
    return folder


@contextmanager
def _running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
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


def _agent(home: Path, node: str, ports: tuple[int, int], identity: Path, shards: Path, trusted: str) -> list[str]:
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
    path = home / f"{node}.json"
    path.write_text(json.dumps(config))
    return [sys.executable, "-m", "node_agent.cli", "run", "--config", str(path)]


def test_two_runs_over_boards_in_service_and_processes_of_this_machine(tmp_path: Path, identity: Path) -> None:
    port, data = _free(), {node: _free() for node in AWAY}
    shards, trusted = _shards(tmp_path)
    boards = [
        {
            "name": name,
            "profile": "raspberry-pi-5",
            **({"kind": "debian", "data_port": data[name]} if name in AWAY else {}),
        }
        for name in ("alpha", "bravo", "charlie", "delta")
    ]
    changes = {"identity": str(identity), "broker": {"host": "127.0.0.1", "port": port}, "boards": boards}
    campaign = {**copy.deepcopy(SHORT), "orbit.duration_s": 40}
    with ExitStack() as stack:
        command, environment = _broker(tmp_path / "broker", port, identity)
        stack.enter_context(_running(command, tmp_path / "broker.log", **environment))
        deadline = time.monotonic() + 20.0
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the broker does not listen"
        agents = []
        for node in AWAY:
            service = _agent(tmp_path, node, (port, data[node]), identity, shards, trusted)
            agents.append(stack.enter_context(_running(service, tmp_path / f"{node}.log")))
        for run in ("first", "second"):
            bench, plan = write_files(tmp_path / f"{run}-files", changes, campaign)
            done = hil("campaign", "run", str(bench), str(plan), "--out", str(tmp_path / run), "--json")
            logs = "".join((tmp_path / f"{node}.log").read_text()[-1500:] for node in AWAY)
            assert done.returncode == 0, f"{done.stderr}\n{logs}"
            metrics = json.loads(done.stdout)["metrics"]
            assert metrics["tokens"] > 10
            assert metrics["records_missing"] == {} and metrics["lost_nodes"] == []
            served = {node["node"]: node["expert_rows"] for node in metrics["nodes"]}
            assert min(served.values()) > 0, served
            assert [agent.poll() for agent in agents] == [None, None], "a run does not end a board's service"
            replay = hil("campaign", "replay", str(tmp_path / run), "--json")
            assert replay.returncode == 0, replay.stderr


def test_a_board_elsewhere_needs_a_fixed_broker_and_certificates(tmp_path: Path) -> None:
    bench, plan = write_files(tmp_path / "files", {"boards.1.kind": "debian"}, copy.deepcopy(SHORT))
    done = hil("campaign", "run", str(bench), str(plan), "--out", str(tmp_path / "run"))
    assert done.returncode == 3
    assert "board bravo is debian" in done.stderr and "hil bench init" in done.stderr
    assert not (tmp_path / "run").exists()
