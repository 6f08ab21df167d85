"""A board's clock: read over a real SSH line, with and without a chrony that keeps it. It is never set here: the board
shares this machine's clock; what would be said to it is tested on a board whose `date` and `chronyc` are scripts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.provision.board_clock import read_clock, set_clock
from firmware_tools.provision.ssh_shell import SshShell
from hil_config.errors import HardwareError
from hil_config.schema.hardware import Ssh
from tests.firmware.provision.ssh_board import SEARCH, SshBoard, missing

WHY_NOT = missing()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"a board behind sshd: {WHY_NOT}")
OLD = 86_400 * 365
"""How far the board with scripts is behind, in seconds."""


class Line:
    """A board and a shell on it; `script` puts a program in front of all others there."""

    def __init__(self, home: Path) -> None:
        self.board = SshBoard(home)
        self.board.start()
        (self.board.root / "opt/board").mkdir()
        self.shell = SshShell(
            "alpha",
            Ssh(host="127.0.0.1", port=self.board.port, user="root", key_file=str(self.board.key),
                host_key_file=str(self.board.known_hosts)),
        )  # fmt: skip
        self.shell.reach(30.0)

    def script(self, name: str, text: str) -> None:
        path = self.board.root / "opt/board" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    one = Line(tmp_path)
    yield one
    one.shell.close()
    one.board.stop()


def test_the_same_clock_is_right_within_the_exchange(line: Line) -> None:
    line.script("chronyc", "exit 1")
    line.script("timedatectl", "exit 1")
    clock = read_clock(line.shell, 20.0)
    assert abs(clock.offset_s) <= clock.within_s + 0.002
    assert (clock.keeper, clock.synchronised, clock.wrong) == ("none", False, False)


@pytest.mark.skipif(not shutil.which("chronyd", path=SEARCH), reason="no chrony")
def test_a_real_chrony_is_asked(line: Line) -> None:
    program = shutil.which("chronyd", path=SEARCH)
    assert program is not None
    (line.board.root / "etc/chrony.test").write_text("local stratum 10\nport 0\ncmdport 0\npidfile /run/chronyd.pid\n")
    line.board.run(program, "-d", "-x", "-u", "root", "-f", "/etc/chrony.test")
    deadline = time.monotonic() + 30
    while (clock := read_clock(line.shell, 20.0)).keeper != "chrony" or not clock.synchronised:
        assert time.monotonic() < deadline, clock
    assert clock.keeper_says_s is not None
    assert "kept by chrony says" in str(clock)


def test_a_clock_of_whole_seconds_that_is_wrong_is_set(line: Line) -> None:
    line.script("chronyc", "exit 1")
    line.script("timedatectl", "exit 1")
    line.script("date", f'case "$*" in *-s*) echo "$*" >/opt/said;; *) [ -e /opt/said ] && echo $(/bin/date +%s).%N || '
                f"echo $(($(/bin/date +%s) - {OLD})).%N;; esac")  # fmt: skip
    clock = read_clock(line.shell, 20.0)
    assert clock.wrong and clock.within_s >= 0.5
    assert abs(clock.offset_s + OLD) <= clock.within_s + 0.002
    after = set_clock(line.shell, clock, 20.0)
    assert not after.wrong
    said = (line.board.root / "opt/said").read_text().strip()
    assert abs(int(said.removeprefix("-u -s @")) - time.time()) < 60


def test_a_synchronised_chrony_steps_and_a_clock_that_stays_wrong_is_told(line: Line) -> None:
    line.script("chronyc", '[ "$1" = makestep ] && : >/opt/stepped || '
                "echo 7F7F0101,,10,0.0,0.25,0,0,0,0,0,0,0,0,Normal")  # fmt: skip
    line.script("date", "echo 1000000000.000000000")
    clock = read_clock(line.shell, 20.0)
    assert (clock.keeper, clock.keeper_says_s) == ("chrony", 0.25)
    with pytest.raises(HardwareError, match="was set and still stands at"):
        set_clock(line.shell, clock, 20.0)
    assert (line.board.root / "opt/stepped").exists()
