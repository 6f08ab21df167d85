"""`hil flash` as a person and as a script meets it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from hil_config.door import run
from tests.firmware.flash.desk import Bench

TEXT = """\
bench: lab
boards:
  - {name: alpha, profile: raspberry-pi-5, kind: raspberry-pi, disk: {file: alpha.img, size_gb: 0.004}}
  - {name: bravo, profile: raspberry-pi-5, kind: raspberry-pi, disk: {file: bravo.img, size_gb: 0.001}}
  - {name: charlie, profile: raspberry-pi-5, kind: raspberry-pi, disk: {serial: NOT-THERE-1}}
  - {name: delta, profile: raspberry-pi-5}
"""


@pytest.fixture
def words(bench: Bench) -> list[str]:
    file = bench.folder / "bench.yaml"
    file.write_text(TEXT)
    return ["--image", str(bench.image), "--bench", str(file)]


def test_dry_run_says_what_it_would_do(bench: Bench, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["flash", "alpha", *words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert str(bench.folder / "alpha.img") in out and "--yes" in out
    assert run(["flash", "alpha", *words, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["boards"][0]
    assert (plan["board"], plan["size"]) == ("alpha", bench.image.stat().st_size)
    assert not (bench.folder / "alpha.img").exists()


def test_yes_wants_the_exact_id(bench: Bench, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    card = bench.folder / "alpha.img"
    assert run(["flash", "alpha", *words, "--yes", "alpha"]) == 2
    assert f"--yes {card}" in capsys.readouterr().err
    assert not card.exists()
    assert run(["flash", "alpha", *words, "--yes", str(card), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["boards"][0]
    receipt, path = answer["result"]
    assert receipt["verified"] is True and json.loads(Path(path).read_text()) == receipt
    assert card.read_bytes()[: bench.image.stat().st_size] == bench.image.read_bytes()


def test_refusals(bench: Bench, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for board, code, text in (
        ("bravo", 11, "too few"),
        ("charlie", 6, "no disk with serial NOT-THERE-1"),
        ("delta", 3, "has no `disk`"),
        ("echo", 2, "no board 'echo'"),
        ("alpha", 2, "in a script: --yes"),
    ):
        assert run(["flash", board, *words]) == code
        assert text in capsys.readouterr().err
    assert sorted(path.name for path in bench.folder.glob("*.img")) == ["board.img"]


def test_many_boards_and_one_that_fails(bench: Bench, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    file = bench.folder / "bench.yaml"
    file.write_text(TEXT.replace("size_gb: 0.001", "size_gb: 0.004"))
    (bench.folder / "bravo.img").mkdir()
    assert run(["flash", "alpha", "bravo", *words, "--yes", "x"]) == 11
    (bench.folder / "bravo.img").rmdir()
    ids = [part for name in ("alpha", "bravo") for part in ("--yes", str(bench.folder / f"{name}.img"))]
    assert run(["flash", "alpha", "bravo", *words, *ids]) == 0
    out = capsys.readouterr().out
    assert "alpha: " in out and "bravo: " in out
    for name in ("alpha", "bravo"):
        assert (bench.folder / f"{name}.img").read_bytes()[:99] == bench.image.read_bytes()[:99]


@pytest.mark.parametrize(("typed", "code"), [("alpha", 0), ("yes", 2)])
def test_typing_the_board_s_name(bench: Bench, words: list[str], typed: str, code: int) -> None:
    near, far = pty.openpty()
    os.write(near, f"{typed}\n".encode())
    done = subprocess.run(
        [sys.executable, "-m", "hil_config.door", "flash", "alpha", *words],
        stdin=far, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(near)
    os.close(far)
    assert done.returncode == code, done.stderr
    assert (bench.folder / "alpha.img").exists() == (code == 0)
