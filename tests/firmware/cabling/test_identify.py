"""`hil bench identify`: which outlet cuts which board."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.console.attach import close_console
from firmware_tools.power import proof
from firmware_tools.state import State
from hil_config.door import run
from tests.firmware.powered_console import PoweredConsole


class Board(PoweredConsole):
    """Has power as long as none of its supplies is off."""

    def __init__(self, *supplies: Path) -> None:
        super().__init__(lambda: all(supply.read_text().strip() == "on" for supply in supplies))


@pytest.fixture
def outlets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(proof, "SILENT_S", 0.4)
    monkeypatch.setattr("firmware_tools.cabling.identify.OFF_S", 0.0)
    found = tmp_path / "one", tmp_path / "two"
    for path in found:
        path.write_text("on\n")
    return found


@pytest.fixture
def bench_file(tmp_path: Path, outlets: tuple[Path, Path], request: pytest.FixtureRequest) -> Iterator[Path]:
    """Two boards; which outlets feed them is the parameter, the bench file says one each."""
    boards = [Board(*(outlets[index] for index in feeds)) for feeds in request.param]
    file, lines = tmp_path / "bench.yaml", ["bench: lab", "boards:"]
    for name, board, outlet in zip(("alpha", "bravo"), boards, outlets, strict=True):
        words = ", ".join(f'{on}_command: [sh, -c, "echo {on} > {outlet}"]' for on in ("on", "off"))
        lines.append(
            f"  - {{name: {name}, profile: raspberry-pi-5, kind: raspberry-pi, console: {{port: {board.port}}},"
            f" power: {{via: command, {words}}}}}"
        )
    file.write_text("\n".join(lines) + "\n")
    yield file
    for name in ("alpha", "bravo"):
        close_console(name, State(file))
    for board in boards:
        board.close()


@pytest.mark.parametrize(
    ("bench_file", "code", "words"),
    [
        (((0,), (1,)), 0, ""),
        (((1,), (0,)), 6, "its switch does not cut it; bravo fell silent instead"),
        (((0,), (0, 1)), 6, "its switch also cuts bravo"),
        (((), (1,)), 6, "its switch does not cut it"),
    ],
    indirect=["bench_file"],
    ids=["right", "swapped", "shared", "fed otherwise"],
)
def test_cabling(
    bench_file: Path, code: int, words: str, outlets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "identify", "alpha", "--bench", str(bench_file), "--json"]) == code
    captured = capsys.readouterr()
    if code:
        assert words in captured.err
    else:
        assert json.loads(captured.out)["others_alive"] == ["bravo"]
    assert [path.read_text().strip() for path in outlets] == ["on", "on"], "whatever was found, it is on again"
