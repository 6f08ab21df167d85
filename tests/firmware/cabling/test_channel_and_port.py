"""`hil bench identify`: which meter channel and which network port is whose, on boards that log in and measure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firmware_tools.console.attach import close_console
from firmware_tools.power import proof
from firmware_tools.provision import shell
from firmware_tools.state import State
from hil_config.door import run
from tests.firmware.cabling.rack import Board, Instrument, missing

WHY_NOT = missing()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"boards on ptys with ports of their own: {WHY_NOT}")
ALPHA, BRAVO = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Starts two boards and writes their bench file.

    `measured`: indices of the boards behind outputs 1 and 2, which the file gives to alpha and bravo. `macs`: what
    the file says. `lines`: indices of the boards at alpha's and bravo's consoles; `model`: alpha's via.
    """
    monkeypatch.setattr(proof, "SILENT_S", 0.4)
    monkeypatch.setattr(shell, "NUDGE_S", 0.5)
    for name, value in (("OFF_S", 0.0), ("METER_S", 0.2), ("SETTLE_S", 0.5)):
        monkeypatch.setattr(f"firmware_tools.cabling.identify.{name}", value)
    monkeypatch.setattr("firmware_tools.meter.readings.PERIOD_S", 0.02)
    undo: list[Callable[[], None]] = []

    def start(measured: tuple[int, int] = (0, 1), macs: tuple[str, str] = (ALPHA, BRAVO), power: bool = True) -> Path:
        outlets = [tmp_path / "one", tmp_path / "two"]
        for outlet in outlets:
            outlet.write_text("on\n")
        boards = [Board(outlet, mac) for outlet, mac in zip(outlets, (ALPHA, BRAVO), strict=True)]
        meter = Instrument(tuple(boards[index] for index in measured))
        undo.extend([meter.close, *(board.close for board in boards)])
        (tmp_path / "password").write_text("right\n")
        (tmp_path / "password").chmod(0o600)
        file, lines = tmp_path / "bench.yaml", ["bench: lab", "boards:"]
        for index, (name, board) in enumerate(zip(("alpha", "bravo"), boards, strict=True)):
            words = ", ".join(f'{on}_command: [sh, -c, "echo {on} > {outlets[index]}"]' for on in ("on", "off"))
            lines += [
                f"  - name: {name}\n    profile: raspberry-pi-5\n    kind: raspberry-pi",
                f"    console: {{port: {board.port}, user: root, password_file: password}}",
                f"    meter: {{via: scpi, at: {meter.port}, channel: {index + 1}}}",
                *([f"    power: {{via: command, {words}}}"] if power else []),
                *([f'    mac: "{macs[index]}"'] if macs[index] else []),
            ]
        file.write_text("\n".join(lines) + "\n")
        return file

    yield start
    for name in ("alpha", "bravo"):
        close_console(name, State(tmp_path / "bench.yaml"))
    for step in undo:
        step()


def identify(file: Path, *words: str) -> int:
    return run(["bench", "identify", "alpha", "--bench", str(file), *words])


def test_cut_proves_channel_and_port(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert identify(make(), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["channel"]["name"].startswith("scpi ") and found["channel"]["name"].endswith(" channel 1")
    assert [round(found["channel"][one], 2) for one in ("before_w", "during_w", "after_w")] == [2.5, 0.0, 2.5]
    assert found["channel"]["provenance"].startswith("measured(scpi ")
    assert found["channel"]["others_still"] == ["bravo"]
    assert (found["port"], found["mac"], found["ways"]) == ("eth0", ALPHA, ["console"])
    assert found["unproved"] == ["agent: none was at the broker"]


def test_load_does_without_a_switch(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert identify(make(power=False, macs=("", ""))) == 0
    said = capsys.readouterr().out
    assert "channel 1 followed: 2.50 W" in said and "those of bravo stood still" in said
    assert f"NOT proved: network port: the bench file names no `mac` (there are eth0 {ALPHA}" in said


def test_swapped_meter_cables_are_named(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert identify(make(measured=(1, 0)), "--by", "load") == 6
    said = capsys.readouterr().err
    assert "channel 2 moved when board alpha was loaded; the bench file gives it to bravo" in said
    assert "channel 1 did not move (2.50 W, 2.50 W, 2.50 W)" in said


def test_two_boards_behind_one_channel(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert identify(make(measured=(0, 0)), "--by", "cut") == 6
    assert (
        "channel 2 moved when board alpha was switched off; the bench file gives it to bravo" in capsys.readouterr().err
    )


def test_a_board_with_the_others_port(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert identify(make(macs=(BRAVO, ALPHA)), "--by", "load") == 6
    said = capsys.readouterr().err
    assert f"board alpha: has no network port {BRAVO} (over its console: " in said
    assert f"eth0 {ALPHA}, which the bench file gives to bravo" in said
