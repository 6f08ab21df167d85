"""A root shell from any state of a console, on ptys with a program that behaves like a board, and like a broken one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from firmware_tools.provision import shell as shell_module
from firmware_tools.provision.board_shell import Stuck
from firmware_tools.provision.shell import Shell

PROGRAM = Path(__file__).with_name("fake_board.py")
Open = Callable[..., Shell]


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Starts a board in one of the modes of fake_board.py and gives a Shell on its console."""
    monkeypatch.setattr(shell_module, "NUDGE_S", 0.5)
    undo: list[Callable[[], object]] = []

    def start(mode: str, password: str = "right") -> Shell:
        near, far = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), mode], stdin=far, stdout=far, stderr=far, start_new_session=True
        )
        os.close(far)
        undo.extend((partial(os.close, near), process.wait, process.kill))
        return Shell("alpha", near, "root", password)

    yield start
    for step in reversed(undo):
        step()


@pytest.mark.parametrize("mode", ["login", "shell", "loader", "late", "noise"])
def test_every_state_leads_to_a_shell(board: Open, mode: str) -> None:
    one = board(mode)
    one.reach(30.0)
    code, out = one.run("echo first; echo second; exit_code() { return 7; }; exit_code")
    lines = [line for line in out.splitlines() if line in ("first", "second")]
    assert (code, lines) == (7, ["first", "second"])
    assert one.run("true")[0] == 0


def test_a_file_goes_over_whole_or_not_at_all(board: Open, tmp_path: Path) -> None:
    one = board("login")
    one.reach(30.0)
    data, path = os.urandom(3000), tmp_path / "there"
    one.put(str(path), data)
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Stuck, match="writing /proc/nothing"):
        one.put("/proc/nothing", data)
    assert [one.name for one in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("mode", "words", "hint"),
    [
        ("panic", "Kernel panic - not syncing: Attempted to kill init", "hil power alpha cycle"),
        ("hung", "no shell after 3 s, it stood at login", "hil console alpha"),
        ("wizard", "first-boot wizard", "hil firstboot alpha"),
        ("silent", "wrong baud rate or no cable", "hil console alpha"),
        ("garbage", "no shell after 3 s", "hil console alpha"),
    ],
)
def test_boards_that_do_not_come(board: Open, mode: str, words: str, hint: str) -> None:
    with pytest.raises(Stuck) as caught:
        board(mode).reach(3.0)
    assert words in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 6


def test_a_wrong_password_is_not_tried_for_ever(board: Open) -> None:
    with pytest.raises(Stuck) as caught:
        board("wrong", "secret-word").reach(60.0)
    assert "was refused 4 times" in caught.value.message
    assert "secret-word" not in str(caught.value)


def test_a_command_that_hangs_and_one_during_which_the_kernel_dies(board: Open) -> None:
    one = board("shell")
    one.reach(30.0)
    with pytest.raises(Stuck, match="did not end within 1 s"):
        one.run("sleep 30", 1.0)
    two = board("shell")
    two.reach(30.0)
    with pytest.raises(Stuck, match="Kernel panic - not syncing: Fatal"):
        two.run("printf 'Kernel pa''nic - not syncing: Fatal exception\\n'; sleep 30", 5.0)
