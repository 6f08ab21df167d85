"""`hil bench characterise`: a record with its instruments, on a board that logs in and an instrument that measures."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_tools.characterise.ambient import Thermometer
from firmware_tools.console.attach import close_console
from firmware_tools.provision import shell
from firmware_tools.state import State
from ground_controller.characterisation import records_of
from hil_config.door import run
from hil_config.errors import ConfigError, HardwareError, UsageError
from hil_config.schema.load import load_bench
from tests.firmware.cabling.rack import Board, Instrument, missing

WHY_NOT = missing()
BOARD = pytest.mark.skipif(bool(WHY_NOT), reason=f"boards on ptys: {WHY_NOT}")
QUICK = ("--idle", "1", "--load", "1", "--settle", "0.5")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    (tmp_path / "outlet").write_text("on\n")
    one = Board(tmp_path / "outlet", "02:00:00:00:00:0a")
    yield one
    one.close()


@pytest.fixture
def bench_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, board: Board) -> Iterator[Path]:
    monkeypatch.setattr(shell, "NUDGE_S", 0.5)
    (tmp_path / "password").write_text("right\n")
    meter = Instrument((board,))
    file = tmp_path / "bench.yaml"
    file.write_text(
        f"""\
bench: lab
boards:
  - name: alpha
    profile: raspberry-pi-5
    kind: raspberry-pi
    console: {{port: {board.port}, user: root, password_file: password}}
    meter: {{via: scpi, at: {meter.port}, channel: 1}}
"""
    )
    yield file
    close_console("alpha", State(file))
    meter.close()


@BOARD
def test_a_record_says_what_was_measured_by_what(bench_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ("--ambient-c", "22.5", "--ambient-by", "TFA 30.1065")
    words = ("bench", "characterise", "alpha", "--bench", str(bench_file), *told, *QUICK)
    assert run([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    path, record = Path(answer["file"]), answer["record"]
    assert json.loads(path.read_bytes()) == record
    assert path.parent == bench_file.parent / "characterisations"
    assert (record["format"], record["version"]) == ("hil-characterisation", 1)
    assert record["ambient"]["before_c"] == record["ambient"]["after_c"] == 22.5
    assert record["ambient"]["provenance"] == {"kind": "measured", "by": "TFA 30.1065, read by hand"}
    assert record["idle"]["mean_w"] == 2.5 and record["load"]["lowest_w"] > 5.0
    assert record["power"]["kind"] == "measured" and record["channel"].endswith("channel 1")
    if record["die"] is not None:  # where the kernel of this machine has the class
        assert record["die"]["zone"] == "cpu-thermal (thermal_zone-cpu)", "of two zones with one name"
        assert (record["die"]["idle_c"], record["die"]["rise_k"]) == (45.0, 0.0)

    bench_file.write_text(bench_file.read_text() + f"    characterisation: characterisations/{path.name}\n")
    (found,) = records_of(load_bench(bench_file))
    assert found == {
        "board": "alpha", "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "record": record,
    }  # fmt: skip


@BOARD
def test_ctrl_c_does_not_wait_for_the_meter(bench_file: Path, board: Board) -> None:
    code = "import signal, sys; from hil_config.door import run; "
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(run(sys.argv[1:]))"
    words = ("bench", "characterise", "alpha", "--bench", str(bench_file), "--ambient-c", "22", "--ambient-by", "TFA")
    command = [sys.executable, "-c", code, *words, "--idle", "1", "--load", "600", "--settle", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("loading it" in line for line in process.stderr)
        pause, deadline = threading.Event(), time.monotonic() + 20
        while board.watts == 2.5 and time.monotonic() < deadline:
            pause.wait(0.02)
        process.send_signal(signal.SIGINT)
        try:
            assert "interrupted" in process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 130


def _bench(folder: Path, **board: Any) -> Path:
    file = folder / "bench.yaml"
    fields = {"name": "alpha", "profile": "local-process", **board}
    file.write_text(f"bench: lab\nboards:\n  - {json.dumps(fields)}\n")
    return file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("{", "record.json"),
        ('{"format": "another"}', "is no record of a characterisation"),
        ('{"format": "hil-characterisation", "board": "bravo"}', "is the record of board bravo"),
    ],
)
def test_a_run_does_not_begin_with_another_boards_record(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "record.json").write_text(text)
    with pytest.raises(ConfigError, match=words):
        records_of(load_bench(_bench(tmp_path, characterisation="record.json")))


def test_what_nobody_measured_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("bench", "characterise", "alpha", "--ambient-c", "20", "--ambient-by", "TFA", "--bench")
    assert run([*words, str(_bench(tmp_path))]) == 3
    assert "board alpha has no `meter`: nothing measures it" in capsys.readouterr().err
    assert run([*words, str(_bench(tmp_path, meter={"via": "agent"}))]) == 3
    assert "an agent reads its meter, and the broker is not there" in capsys.readouterr().err
    assert not (tmp_path / "characterisations").exists()


def test_the_room(tmp_path: Path) -> None:
    sensor = tmp_path / "temp1_input"
    sensor.write_text("21875\n")
    (tmp_path / "name").write_text("sht31\n")
    found = Thermometer(None, "", str(sensor))
    assert (found.read(), found.provenance.by) == (21.875, f"sht31 at {sensor}")
    for wrong in ("hot", "99000"):
        sensor.write_text(wrong)
        with pytest.raises(HardwareError):
            found.read()
    with pytest.raises(HardwareError):
        Thermometer(None, "", str(tmp_path / "none"))
    for told_c, by, path in ((None, "", ""), (20.0, "TFA", str(sensor)), (20.0, " ", "")):
        with pytest.raises(UsageError):
            Thermometer(told_c, by, path)
