"""A bench with one board behind a real sshd, first boot done, and its broker when asked for. Not a test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from firmware_tools.firstboot.agent_package import agent_tar, folder_tar
from firmware_tools.firstboot.payload import FOLDER, Place, Settings, payload
from firmware_tools.identity import COMMAND_PUBLIC_FILE, CRL_FILE
from firmware_tools.identity_store import IdentityStore
from firmware_tools.state import State
from firmware_tools.virtual.recipe import FIRSTBOOT, ROOTFS
from hil_config.door import run
from tests.firmware.provision.ssh_board import SEARCH, SshBoard, free_port

MODEL = {"profile": "raspberry-pi-5", "idle_w": 2.7, "per_core_w": 1.0, "cores": 4, "cpu_scale": 1.0}
BIN = "opt/board"


class Desk(NamedTuple):
    """Use `hil` as a person would."""

    board: SshBoard
    bench_file: Path
    store: IdentityStore

    def hil(self, *words: str) -> int:
        return run([*words, "--bench", str(self.bench_file)])

    def receipts(self, kind: str = "provision") -> list[dict[str, Any]]:
        paths = (State(self.bench_file).folder / "receipts").glob(f"alpha-{kind}-*.json")
        return [json.loads(path.read_text()) for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns)]

    def slot(self, link: str = "current") -> str:
        path = self.board.root / "opt/hil" / link
        return os.readlink(path).removeprefix("slots/") if path.is_symlink() else ""


def _first_boot(board: SshBoard, store: IdentityStore, port: int, shards: bytes) -> None:
    files = payload(
        Settings(
            "alpha", "lab", Place("127.0.0.1", port, "127.0.0.1", free_port()), MODEL, store.ca,
            store.make_token("alpha"), command_key=(store.folder / COMMAND_PUBLIC_FILE).read_bytes(),
            crl=(store.folder / CRL_FILE).read_bytes(),
        ),
        agent_tar(), shards,
    )  # fmt: skip
    (board.home / "boot" / FOLDER).mkdir(parents=True)
    for name, data in files.items():
        (board.home / "boot" / FOLDER / name).write_bytes(data)
    done = subprocess.run(
        ["sh", str(FIRSTBOOT), str(board.home / "boot")], env={**os.environ, "HIL_ROOT": str(board.root)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def open_desk(home: Path, shards: bytes = b"") -> Iterator[Desk]:
    board, port = SshBoard(home / "board"), free_port()
    assert run(["bench", "init", "lab", "--folder", str(home / "identity"), "--port", str(port)]) == 0
    store, bench_file = IdentityStore(home / "identity"), home / "bench.yaml"
    bench_file.write_text(
        f"""\
bench: lab
identity: identity
broker: {{host: 127.0.0.1, port: {port}}}
boards:
  - name: alpha
    profile: raspberry-pi-5
    kind: debian
    ssh: {{host: 127.0.0.1, port: {board.port}, user: root, key_file: board/key, host_key_file: board/known_hosts}}
"""
    )
    board.home.mkdir()
    try:
        board.start()
        _first_boot(board, store, port, shards)
        yield Desk(board, bench_file, store)
    finally:
        board.stop()


@contextmanager
def open_broker(desk: Desk) -> Iterator[None]:
    """The bench's broker, and the board's own supervisor of its agent."""
    program = shutil.which("mosquitto", path=SEARCH)
    assert program is not None
    folder = desk.board.root / BIN
    folder.mkdir()
    (folder / "python3.11").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    loop = (ROOTFS / "agent-loop").read_text().replace("PATH=/usr/sbin", f"PATH=/{BIN}:/usr/sbin")
    (folder / "agent-loop").write_text(loop)
    for path in folder.iterdir():
        path.chmod(0o755)
    with open(desk.board.home / "broker.log", "wb") as log:
        config = desk.store.folder / "broker" / "mosquitto.conf"
        broker = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
    try:
        desk.board.run("sh", "-c", f"while :; do sh /{BIN}/agent-loop; sleep 0.2; done")
        yield
    finally:
        broker.terminate()
        broker.wait(10)


def shards_tar(home: Path) -> bytes:
    assert run(["models", "build", "--out", str(home / "shards")]) == 0
    return folder_tar(home / "shards")
