"""A console at another rate than the bench file says: a pty takes any rate, so its far end looks which one was set."""

from __future__ import annotations

import os
import pty
import random
import select
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firmware_tools.console.attach import close_console
from firmware_tools.provision import baud
from firmware_tools.provision.baud import RATES, garbled, others, readable
from firmware_tools.state import State
from hil_config.door import run

SPEEDS = {getattr(termios, f"B{rate}"): rate for rate in RATES}


class Uart:
    """A shell behind a line that speaks at one rate, or at none; at others it gives noise. Args: rate, 0 for none."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._near, self._far = pty.openpty()
        self.port = os.ttyname(self._far)
        self._shell_near, inner = pty.openpty()
        self._shell = subprocess.Popen(
            ["sh", "-i"], stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
            env={**os.environ, "PS1": "board# "},
        )  # fmt: skip
        os.close(inner)
        self._woken, self._wake = os.pipe()
        self._noise = random.Random(7)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        watched = [self._near, self._shell_near, self._woken]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if self._woken in ready:
                return
            right = SPEEDS.get(termios.tcgetattr(self._near)[5]) == self._rate
            if self._near in ready:
                data = os.read(self._near, 4096)
                if right:
                    os.write(self._shell_near, data)
                else:
                    os.write(self._near, bytes(self._noise.choices(range(0x80, 0x100), k=40)))
            if self._shell_near in ready:
                try:
                    data = os.read(self._shell_near, 4096)
                except OSError:  # logged out
                    watched.remove(self._shell_near)
                    continue
                if right:
                    os.write(self._near, data)

    def close(self) -> None:
        os.write(self._wake, b"x")
        self._thread.join()
        self._shell.kill()
        self._shell.wait(10)
        for one in (self._near, self._far, self._shell_near, self._woken, self._wake):
            os.close(one)


Start = Callable[[int], Path]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Start]:
    """Bench file of a board whose console is a Uart of the given rate; the file says 115200."""
    uarts: list[Uart] = []
    path = tmp_path / "bench.yaml"

    def start(rate: int) -> Path:
        uarts.append(Uart(rate))
        path.write_text(
            f"bench: lab\nidentity: identity\nbroker: {{port: 8883}}\n"
            f"boards:\n  - name: alpha\n    profile: raspberry-pi-5\n"
            f"    kind: debian\n    console: {{port: {uarts[0].port}, user: root}}\n"
        )
        return path

    assert run(["bench", "init", "lab", "--folder", str(tmp_path / "identity")]) == 0
    yield start
    close_console("alpha", State(path))
    for one in uarts:
        one.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="the shell behind the line is this user's, and provisioning wants root")
def test_the_rate_that_answers_is_found_and_named(bench: Start, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["provision", "alpha", "--check", "--timeout", "30", "--bench"]
    assert run([*words, str(bench(9_600))]) == 9
    said = capsys.readouterr()
    assert "answers at 9600 baud, not at 115200: write `baud: 9600`" in said.err
    assert said.out.startswith("alpha:\n  first boot:") and "differs:         first boot, certificate" in said.out


def test_no_rate_answers(bench: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baud, "LISTEN_S", 0.5)
    assert run(["provision", "alpha", "--check", "--timeout", "30", "--bench", str(bench(0))]) == 6
    said = capsys.readouterr().err
    for rate in others(115_200):
        assert str(rate) in said
    assert "see to cable and power" in said


def test_what_counts_as_text() -> None:
    assert readable(b"\r\nboard login: ")
    assert not readable(b"\r\n")
    assert not readable(b"ab\x80\x81\xfe\x00cd")
    assert not garbled(b"\xfe\x80"), "a few bytes are the noise of a board that is switched on"
    assert garbled(bytes(range(0x80, 0xFF)))
