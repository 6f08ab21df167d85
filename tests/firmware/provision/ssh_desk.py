"""A bench with one board behind a real sshd, first boot done, and its broker when asked for. Not a test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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

    boards: dict[str, SshBoard]
    bench_file: Path
    store: IdentityStore

    @property
    def board(self) -> SshBoard:
        return self.boards["alpha"]

    def hil(self, *words: str) -> int:
        return run([*words, "--bench", str(self.bench_file)])

    def receipts(self, kind: str = "provision", name: str = "alpha") -> list[dict[str, Any]]:
        paths = (State(self.bench_file).folder / "receipts").glob(f"{name}-{kind}-*.json")
        return [json.loads(path.read_text()) for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns)]

    def slot(self, link: str = "current", name: str = "alpha") -> str:
        path = self.boards[name].root / "opt/hil" / link
        return os.readlink(path).removeprefix("slots/") if path.is_symlink() else ""


def _first_boot(name: str, board: SshBoard, store: IdentityStore, port: int, shards: bytes) -> None:
    files = payload(
        Settings(
            name, "lab", Place("127.0.0.1", port, "127.0.0.1", free_port()), {"power_model": MODEL}, store.ca,
            store.make_token(name), command_key=(store.folder / COMMAND_PUBLIC_FILE).read_bytes(),
            crl=(store.folder / CRL_FILE).read_bytes(),
        ),
        agent_tar(), shards,
    )  # fmt: skip
    (board.home / "boot" / FOLDER).mkdir(parents=True)
    for file, data in files.items():
        (board.home / "boot" / FOLDER / file).write_bytes(data)
    done = subprocess.run(
        ["sh", str(FIRSTBOOT), str(board.home / "boot")], env={**os.environ, "HIL_ROOT": str(board.root)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def open_desk(home: Path, shards: bytes = b"", names: tuple[str, ...] = ("alpha",)) -> Iterator[Desk]:
    port = free_port()
    assert run(["bench", "init", "lab", "--folder", str(home / "identity"), "--port", str(port)]) == 0
    store, bench_file = IdentityStore(home / "identity"), home / "bench.yaml"
    lines = ["bench: lab", "identity: identity", f"broker: {{host: 127.0.0.1, port: {port}}}", "boards:"]
    with ExitStack() as stack:
        boards = {name: SshBoard(home / f"board-{name}") for name in names}
        for name, board in boards.items():
            keys = f"key_file: {board.key}, host_key_file: {board.known_hosts}"
            lines += [
                f"  - name: {name}\n    profile: raspberry-pi-5\n    kind: debian",
                f"    ssh: {{host: 127.0.0.1, port: {board.port}, user: root, {keys}}}",
            ]
            board.home.mkdir()
            stack.callback(board.stop)
            board.start()
            _first_boot(name, board, store, port, shards)
        bench_file.write_text("\n".join(lines) + "\n")
        yield Desk(boards, bench_file, store)


@contextmanager
def open_broker(desk: Desk) -> Iterator[None]:
    """The bench's broker, and each board's own supervisor of its agent."""
    program = shutil.which("mosquitto", path=SEARCH)
    assert program is not None
    with open(desk.board.home / "broker.log", "wb") as log:
        config = desk.store.folder / "broker" / "mosquitto.conf"
        broker = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
    try:
        for board in desk.boards.values():
            _supervise(board)
        yield
    finally:
        broker.terminate()
        broker.wait(10)


def _supervise(board: SshBoard) -> None:
    folder = board.root / BIN
    folder.mkdir()
    (folder / "python3.11").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    loop = (ROOTFS / "agent-loop").read_text().replace("PATH=/usr/sbin", f"PATH=/{BIN}:/usr/sbin")
    (folder / "agent-loop").write_text(loop)
    for path in folder.iterdir():
        path.chmod(0o755)
    board.run("sh", "-c", f"while :; do sh /{BIN}/agent-loop; sleep 0.2; done")


def shards_tar(home: Path) -> bytes:
    assert run(["models", "build", "--out", str(home / "shards")]) == 0
    return folder_tar(home / "shards")
