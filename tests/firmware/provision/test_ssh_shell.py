"""A root shell over SSH, on a real sshd: its own keys, its own configuration, a loopback port."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.provision.board_shell import Stuck
from firmware_tools.provision.ssh_shell import SshShell
from hil_config.errors import ConfigError, SafetyRefusal
from hil_config.schema.hardware import Ssh
from tests.firmware.provision.ssh_board import SshBoard, free_port, missing

WHY_NOT = missing()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"a board behind sshd: {WHY_NOT}")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SshBoard]:
    one = SshBoard(tmp_path)
    try:
        one.start()
        yield one
    finally:
        one.stop()


def place(board: SshBoard, **changes: object) -> Ssh:
    values: dict[str, object] = {
        "host": "127.0.0.1", "port": board.port, "user": "root", "key_file": str(board.key),
        "host_key_file": str(board.known_hosts),
    }  # fmt: skip
    return Ssh.model_validate({**values, **changes})


@pytest.fixture
def shell(board: SshBoard) -> Iterator[SshShell]:
    one = SshShell("alpha", place(board))
    one.reach(30.0)
    yield one
    one.close()


def test_commands_and_files(board: SshBoard, shell: SshShell) -> None:
    assert shell.run("echo first; echo 'sec''ond' >&2; exit 7") == (7, "first\nsecond")
    data = os.urandom(300_000)
    shell.put("/opt/hil/there", data)
    written = board.root / "opt/hil/there"
    assert written.read_bytes() == data
    assert written.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Stuck, match="writing /proc/nothing"):
        shell.put("/proc/nothing", b"x")
    with pytest.raises(Stuck, match="exit code 3, it said 'no good'"):
        shell.must("echo no good; exit 3", "trying")


def test_a_login_shell_that_complains_as_it_starts(board: SshBoard) -> None:
    forced = board.home / "forced"
    forced.write_text(forced.read_text().replace("\nexec", "\necho .profile: no such file >&2\nexec", 1))
    one = SshShell("alpha", place(board))
    one.reach(30.0)
    assert one.run("echo first; echo second >&2") == (0, "first\nsecond"), "root without sudo, and nothing in the way"
    one.close()


def test_a_command_that_hangs_and_a_line_that_breaks(board: SshBoard, shell: SshShell) -> None:
    with pytest.raises(Stuck, match="'sleep 30' did not end within 1 s"):
        shell.run("sleep 30", 1.0)
    assert shell.run("true")[0] == 0, "the connection is still good"
    os.mkfifo(board.root / "opt/begun")
    told = os.open(board.root / "opt/begun", os.O_RDONLY | os.O_NONBLOCK)  # before the board opens it to write
    thread = threading.Thread(target=board.cut_when, args=(told,))
    thread.start()
    with pytest.raises(Stuck, match="the connection broke during"):
        shell.run("echo > /opt/begun; sleep 30")
    thread.join()
    os.close(told)


def test_another_host_key_is_refused(board: SshBoard) -> None:
    other = board.home / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True, timeout=30)
    board.pin((board.home / "other.pub").read_text())
    one = SshShell("alpha", place(board))
    with pytest.raises(SafetyRefusal, match="not the one in"):
        one.reach(30.0)
    one.close()


def test_keys_that_do_not_open(board: SshBoard) -> None:
    other = board.home / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True, timeout=30)
    cases: tuple[tuple[dict[str, object], type[Exception], str], ...] = (
        ({"key_file": str(other)}, Stuck, "refuses the key"),
        ({"key_file": "/nonexistent"}, ConfigError, "No such file"),
        ({"host_key_file": "/nonexistent"}, ConfigError, "host_key_file /nonexistent"),
        ({"port": free_port()}, Stuck, "no shell after 2 s"),
    )
    for changes, error, words in cases:
        one = SshShell("alpha", place(board, **changes))
        with pytest.raises(error, match=words):
            one.reach(2.0)
        one.close()
    board.key.chmod(0o644)
    one = SshShell("alpha", place(board))
    with pytest.raises(ConfigError, match="others may read"):
        one.reach(2.0)
    one.close()
