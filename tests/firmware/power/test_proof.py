"""Off is proved by what can be seen, never by what the switch says."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.console.attach import close_console, log_path, open_console
from firmware_tools.power import proof
from firmware_tools.state import State
from hil_config.door import run
from tests.firmware.powered_console import PoweredConsole


class Board(PoweredConsole):
    """A board whose power a test takes away: by `alive`, or by its switch, whose last word is in the file `said`, once
    it `obeys`."""

    def __init__(self, said: Path) -> None:
        self.alive, self.obeys = True, False
        super().__init__(lambda: self.alive and not (self.obeys and said.exists() and said.read_text() == "off\n"))


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    one = Board(tmp_path / "said")
    yield one
    one.close()


@pytest.fixture
def bench_file(tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(proof, "SILENT_S", 0.5)
    switch = tmp_path / "switch"
    switch.write_text(f'#!/bin/sh\necho "$1" >{tmp_path}/said\n')
    switch.chmod(0o755)
    file = tmp_path / "bench.yaml"
    words, other = (
        f'on_command: ["{switch}", on, {name}], off_command: ["{switch}", off, {name}], '
        f'status_command: [cat, "{tmp_path}/said"]'
        for name in ("alpha", "bravo")
    )
    file.write_text(
        f"bench: lab\nboards:\n  - name: alpha\n    profile: raspberry-pi-5\n    kind: raspberry-pi\n"
        f"    console: {{port: {board.port}}}\n    power: {{via: command, {words}}}\n"
        f"  - {{name: bravo, profile: raspberry-pi-5, power: {{via: command, {other}}}}}\n"
    )
    yield file
    close_console("alpha", State(file))


def test_a_board_that_lives_on_is_not_off(bench_file: Path, board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["power", "alpha", "off", "--bench", str(bench_file)]) == 6
    assert "its switch says off, but it lives (console:" in capsys.readouterr().err
    assert run(["power", "alpha", "on", "--bench", str(bench_file)]) == 0
    board.obeys = True
    capsys.readouterr()
    assert run(["power", "alpha", "off", "--bench", str(bench_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["boards"][0]["result"]
    assert found["proved"] is True and found["evidence"][0]["verdict"] == "silent"
    assert run(["power", "alpha", "status", "--bench", str(bench_file)]) == 0
    assert capsys.readouterr().out == "alpha: off\n"


def test_a_console_that_was_silent_before_proves_nothing(
    bench_file: Path, board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    board.alive = False  # or its cable is on another board, or nothing has a prompt there
    assert run(["power", "alpha", "off", "--bench", str(bench_file)]) == 0
    said = capsys.readouterr().out
    assert "alpha: off, NOT proved: console: nothing within" in said and "as before it was switched off" in said


def test_a_cycle_that_cuts_something_else_does_not_leave_it_off(
    bench_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["power", "alpha", "cycle", "--bench", str(bench_file)]) == 6
    said = capsys.readouterr().err
    assert "its switch says off, but it lives" in said and "alpha: stopped, and on again" in said
    assert (tmp_path / "said").read_text() == "on\n"


def test_without_a_witness_it_says_so(bench_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["power", "bravo", "off", "--bench", str(bench_file)]) == 0
    assert "NOT proved" in capsys.readouterr().out


@pytest.mark.parametrize("boards", [["bravo"], ["bravo", "charlie"]])
def test_a_cycle_that_is_stopped_leaves_no_board_off(bench_file: Path, tmp_path: Path, boards: list[str]) -> None:
    text = bench_file.read_text()
    bench_file.write_text(text + text.splitlines()[-1].replace("bravo", "charlie").replace("/said", "/said-2") + "\n")
    code = "import signal, sys; from hil_config.door import run; "
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "power", *boards, "cycle", "--bench", str(bench_file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in boards]
        assert all("switched off, proving it" in one for one in said), said
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert (tmp_path / "said").read_text() == "on\n"
    assert ("bravo: stopped, and on again" in rest) or "what was begun on bravo, charlie ends by itself" in rest


def test_what_is_held_by_somebody_else(
    bench_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--bench", str(bench_file)]
    monkeypatch.setattr("firmware_tools.reservation.me", lambda: "ada@lab")
    assert run(["bench", "reserve", "bravo", "--reason", "thermal run", *words]) == 0
    assert run(["power", "bravo", "on", *words]) == 0
    monkeypatch.setattr("firmware_tools.reservation.me", lambda: "bob@lab")
    assert run(["power", "bravo", "on", *words]) == 11
    assert "ada@lab holds it until" in capsys.readouterr().err
    assert run(["bench", "release", "bravo", *words]) == 11
    assert run(["bench", "release", "bravo", "--force", *words]) == 0
    assert run(["power", "bravo", "on", *words]) == 0
    monkeypatch.setattr("firmware_tools.reservation.me", lambda: "ada@lab")
    assert run(["bench", "reserve", "bravo", *words]) == 0
    monkeypatch.setattr("time.time", lambda: 4e9)
    monkeypatch.setattr("firmware_tools.reservation.me", lambda: "bob@lab")
    assert run(["power", "bravo", "on", *words]) == 0, "it has expired"


def test_the_console_is_read_all_the_time_and_logged(bench_file: Path, board: Board) -> None:
    state = State(bench_file)
    with open_console("alpha", board.port, 115_200, state) as first:
        first.settimeout(10.0)
        first.sendall(b"x\r")
        heard = b""
        while b"login: " not in heard:
            heard += first.recv(100)
    with open_console("alpha", board.port, 115_200, state) as second:
        second.settimeout(5.0)
        assert b"login: " in second.recv(1000), "who comes later sees what was printed before"
    close_console("alpha", state)
    assert "login:" in log_path("alpha", state).read_text()
    assert log_path("alpha", state).stat().st_mode & 0o077 == 0


def test_an_owner_that_has_gone_proves_no_silence() -> None:
    near, far = socket.socketpair()
    with near, far:
        far.shutdown(socket.SHUT_WR)
        assert proof.console_witness(near).verdict == "no way to tell"


def test_an_answer_in_pieces_is_not_asked_for_again_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "SILENT_S", 0.5)
    near, far = socket.socketpair()
    asked = 0

    def answer() -> None:
        nonlocal asked
        while data := far.recv(64):
            asked += len(data)
            for piece in (b"\r\n", b"board ", b"login: "):
                far.sendall(piece)

    with near, far:
        board = threading.Thread(target=answer)
        board.start()
        assert proof.console_witness(near).verdict == "alive"
        near.shutdown(socket.SHUT_WR)
        board.join()
    assert 1 <= asked <= 0.5 / proof.ASK_S + 1


@pytest.mark.parametrize("host", ["no-such-host.invalid", "alpha..bench", "127.0.0.1"])
def test_a_name_that_is_not_known_and_a_port_that_refuses_prove_nothing(host: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        assert proof.port_witness("ssh", host, port).verdict == "no way to tell"


def test_an_address_that_never_answered_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.connect(full.getsockname())  # nobody takes it: whoever comes now waits in vain
        file, port = tmp_path / "bench.yaml", full.getsockname()[1]
        assert proof.port_witness("ssh", "127.0.0.1", port).verdict == "silent", "had it lived before"
        switch = '{via: command, on_command: ["true"], off_command: ["true"]}'
        ssh = f"{{host: 127.0.0.1, port: {port}, key_file: k, host_key_file: h}}"
        board = f"{{name: alpha, profile: raspberry-pi-5, kind: debian, power: {switch}, ssh: {ssh}}}"
        file.write_text(f"bench: lab\nboards: [{board}]\n")
        assert run(["power", "alpha", "off", "--bench", str(file)]) == 0
    assert "alpha: off, NOT proved: ssh: 127.0.0.1:" in (said := capsys.readouterr().out)
    assert "timed out, as before it was switched off" in said
