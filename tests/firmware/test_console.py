"""The process that owns a console: what it says of a line that is not open, and that nothing makes it deaf."""

from __future__ import annotations

import os
import pty
import socket
import tempfile
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firmware_tools.console.attach import close_console, line_trouble, log_path, open_console
from firmware_tools.provision import baud
from firmware_tools.provision.board_shell import Stuck
from firmware_tools.provision.shell import Shell
from firmware_tools.state import State
from hil_config.door import run


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    one = State(tmp_path / "bench.yaml")
    yield one
    close_console("alpha", one)


def until(true: Callable[[], bool]) -> bool:
    pause, deadline = threading.Event(), time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        pause.wait(0.02)
    return true()


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("/dev/no-such-line", "No such file or directory"),
        ("nonsense://x", "nonsense"),
        ("socket://127.0.0.1:1", "refused"),
        ("/dev/null", "Inappropriate ioctl"),
    ],
)
def test_a_line_that_cannot_be_opened_is_named(state: State, port: str, said: str) -> None:
    with open_console("alpha", port, 115_200, state):
        assert said in line_trouble("alpha", state)


def test_a_line_that_comes_and_goes(state: State, tmp_path: Path) -> None:
    link = tmp_path / "line"
    with open_console("alpha", str(link), 115_200, state) as sock:
        assert "No such file" in line_trouble("alpha", state)
        for word in (b"first\n", b"second\n"):
            near, far = pty.openpty()
            tty.setraw(far)
            link.symlink_to(os.ttyname(far))
            assert until(lambda: not line_trouble("alpha", state))
            os.write(near, word)
            sock.settimeout(20)
            assert sock.recv(100) == word
            link.unlink()
            os.close(far)
            os.close(near)  # as when a cable is pulled
            assert until(lambda: bool(line_trouble("alpha", state)))


def test_a_line_that_takes_nothing_is_still_read(state: State) -> None:
    near, far = pty.openpty()
    tty.setraw(far)
    with open_console("alpha", os.ttyname(far), 4_000_000, state) as sock:
        assert line_trouble("alpha", state) == ""
        sock.settimeout(20)
        sock.sendall(b"x" * (64 << 10))  # nobody reads at `near`
        os.write(near, b"still here\n")
        assert until(lambda: "still here" in log_path("alpha", state).read_text())
    begin = time.monotonic()
    close_console("alpha", state)
    assert time.monotonic() - begin < 9, "it ended when it was told to"
    for one in (near, far):
        os.close(one)


def test_what_is_told_to_a_person(tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text(
        "bench: lab\nboards:\n  - {name: alpha, profile: raspberry-pi-5, console: {port: /dev/no-such-line},"
        " power: {via: command, on_command: ['true'], off_command: ['true']}}\n"
    )
    assert run(["power", "alpha", "off", "--bench", str(file)]) == 0
    out = capsys.readouterr().out
    assert "NOT proved" in out and "/dev/no-such-line" in out


def test_provision_names_the_line(tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "init", "lab", "--folder", str(tmp_path / "identity")]) == 0
    file = tmp_path / "bench.yaml"
    file.write_text(
        "bench: lab\nidentity: identity\nbroker: {port: 8883}\n"
        "boards:\n  - {name: alpha, profile: raspberry-pi-5, kind: debian, console: {port: /dev/no-such-line}}\n"
    )
    assert run(["provision", "alpha", "--check", "--timeout", "10", "--bench", str(file)]) == 6
    said = capsys.readouterr().err
    assert "not open yet" in said and "error: board alpha: console /dev/no-such-line: " in said
    assert "baud" not in said


def test_a_line_that_the_bench_file_names_now(state: State) -> None:
    """After two plugs were swapped in the file, the process that read the old one would speak for the other board."""
    lines = [pty.openpty() for _ in range(2)]
    try:
        for near, far in lines:
            tty.setraw(far)
            with open_console("alpha", os.ttyname(far), 115_200, state) as console:
                assert line_trouble("alpha", state) == ""
                os.write(near, f"this is {os.ttyname(far)}\n".encode())
                console.settimeout(20.0)
                heard = b""
                while not heard.endswith(b"\n"):
                    heard += console.recv(100)
                assert heard.decode() == f"this is {os.ttyname(far)}\n"
    finally:
        close_console("alpha", state)
        for one in (one for line in lines for one in line):
            os.close(one)


@pytest.mark.parametrize("option", ["--log", "--stop"])
def test_a_console_of_another_user_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as home:  # unlike pytest's, one that others may enter
        os.chmod(home, 0o755)
        file, kept = Path(home) / "bench.yaml", Path(home) / ".hil/consoles"
        file.write_text("bench: lab\nboards: [{name: alpha, profile: raspberry-pi-5, console: {port: /dev/x}}]\n")
        assert run(["console", "alpha", option, "--bench", str(file)]) == 0
        kept.chmod(0o000)
        user = os.geteuid()
        try:
            if user == 0:  # who may read everything
                os.seteuid(65_534)
            assert run(["console", "alpha", option, "--bench", str(file)]) == 9
        finally:
            os.seteuid(user)
            kept.chmod(0o700)
        said = capsys.readouterr().err
        assert f"error: {kept}: cannot be used: Permission denied" in said and "of another user" in said


def test_an_owner_that_ends_is_named_at_every_step() -> None:
    for step in ("reach", "run", "close", "rate"):
        near, far = socket.socketpair()
        far.close()
        with near:
            shell = Shell("alpha", near, "root", "")
            if step == "rate":
                assert not baud.answers(near)
            elif step == "close":
                shell._inside = True
                shell.close()
            else:
                with pytest.raises(Stuck, match="reads its console has ended"):
                    shell.reach(5.0) if step == "reach" else shell.run("true")
