"""`hil provision` over SSH: the same steps as on the console, against a board behind a real sshd."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from firmware_tools.firstboot.agent_package import agent_tar
from firmware_tools.firstboot.payload import FOLDER, Place, Settings, payload
from firmware_tools.identity_store import IdentityStore
from firmware_tools.state import State
from firmware_tools.virtual.recipe import FIRSTBOOT
from hil_config.door import run
from tests.firmware.provision.ssh_board import SshBoard, missing

WHY_NOT = missing()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"a board behind sshd: {WHY_NOT}")


class Desk(NamedTuple):
    """A bench with one board that has had its first boot."""

    board: SshBoard
    bench_file: Path
    store: IdentityStore

    def hil(self, *words: str) -> int:
        return run([*words, "--bench", str(self.bench_file)])

    def receipts(self, kind: str = "provision") -> list[dict[str, Any]]:
        paths = sorted((State(self.bench_file).folder / "receipts").glob(f"alpha-{kind}-*.json"))
        return [json.loads(path.read_text()) for path in paths]


def first_boot(board: SshBoard, store: IdentityStore) -> None:
    files = payload(
        Settings("alpha", "lab", Place("127.0.0.1", 1, "127.0.0.1", 0), {}, store.ca, store.make_token("alpha")),
        agent_tar(),
    )
    (board.home / "boot" / FOLDER).mkdir(parents=True)
    for name, data in files.items():
        (board.home / "boot" / FOLDER / name).write_bytes(data)
    done = subprocess.run(
        ["sh", str(FIRSTBOOT), str(board.home / "boot")], env={**os.environ, "HIL_ROOT": str(board.root)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    board = SshBoard(tmp_path / "board")
    store = IdentityStore.create(tmp_path / "identity", "lab", ())
    bench_file = tmp_path / "bench.yaml"
    bench_file.write_text(
        f"""\
bench: lab
identity: identity
broker: {{host: 127.0.0.1, port: 18833}}
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
        first_boot(board, store)
        yield Desk(board, bench_file, store)
    finally:
        board.stop()


def test_the_same_steps_as_on_the_console(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    token = (desk.board.root / "etc/hil/token").read_text()
    assert desk.hil("provision", "alpha", "--check") == 0
    assert "no certificate of ours" in capsys.readouterr().out
    assert not (desk.board.root / "etc/hil/identity/certificate.pem").exists(), "only looked"
    for _ in range(2):
        assert desk.hil("provision", "alpha", "--no-wait") == 0
    first, second = desk.receipts()
    assert (first["changed"], second["changed"]) == (["enrolled"], [])
    assert (desk.board.root / "etc/hil/identity/certificate.pem").exists()
    assert not (desk.board.root / "etc/hil/token").exists()
    said = capsys.readouterr()
    assert token not in said.out + said.err + json.dumps([first, second])


def test_a_way_that_the_bench_file_does_not_name(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.hil("provision", "alpha", "--via", "console", "--no-wait") == 3
    assert "wants `console`" in capsys.readouterr().err
