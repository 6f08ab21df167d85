"""A load ends with what it was for, also where that is broken off, on a board behind a real sshd."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.cabling.load import busy
from firmware_tools.provision.ssh_shell import SshShell
from hil_config.schema.hardware import Ssh
from tests.firmware.provision.ssh_board import SshBoard, missing

WHY_NOT = missing()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"a board behind sshd: {WHY_NOT}")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[SshShell]:
    board = SshBoard(tmp_path / "board")
    board.home.mkdir()
    try:
        board.start()
        keys = {"key_file": str(board.key), "host_key_file": str(board.known_hosts)}
        one = SshShell("alpha", Ssh(host="127.0.0.1", port=board.port, user="root", **keys))
        one.reach(30.0)
        yield one
        one.close()
    finally:
        board.stop()


def loops(shell: SshShell) -> int:
    return int(shell.must("grep -ls 'whil[e] :' /proc/[0-9]*/cmdline | wc -l", "counting its loops"))


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, ValueError])
def test_it_ends_with_what_it_was_for(shell: SshShell, end: type[BaseException] | None) -> None:
    try:
        with busy(shell, 600):
            assert loops(shell) > 0
            if end is not None:
                raise end
    except (KeyboardInterrupt, ValueError):
        pass
    pause, deadline = threading.Event(), time.monotonic() + 20
    while loops(shell) and time.monotonic() < deadline:
        pause.wait(0.05)
    assert loops(shell) == 0, "the next record's idle power would be that of the load"
    assert shell.run("ls /run/hil-load-*")[0] != 0
