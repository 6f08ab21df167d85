"""`hil top` in a terminal, over a record that grows, and where there is no terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect

if TYPE_CHECKING:
    from tests.live.conftest import Growing

HIL = (sys.executable, "-m", "hil_config.door")
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9])")


def _once(folder: Path, columns: int) -> str:
    done = subprocess.run(
        [*HIL, "top", str(folder), "--once"], env={**os.environ, "COLUMNS": str(columns)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60.0, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_prints_how_a_run_stands(simulated: Path) -> None:
    text = _once(simulated, 140)
    assert "simulated, ended" in text
    rows = {line.split()[1]: line for line in text.splitlines() if "STARLINK" in line and line[0] in "●✗"}
    assert sorted(rows) == ["alpha", "bravo", "charlie", "delta"]
    assert "W modelled" in rows["alpha"]
    assert "was made to fail at 60 s" in rows["bravo"]
    assert "temperature, charge: modelled(twin" in text
    assert "! " in text and "bravo dead" in text
    narrow = _once(simulated, 80)
    assert "STARLINK-2617 " not in narrow
    assert all(name in narrow for name in ("alpha", "W modelled", "dead"))


def test_it_follows_a_run_in_a_terminal_to_its_end(growing: Callable[[], Growing]) -> None:
    run = growing()
    killed = run.last("status", "bravo")
    run.grow(killed - 1)
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "130", "LINES": "30"}
    child = pexpect.spawn(
        HIL[0], [*HIL[1:], "top", str(run.folder), "--every", "0.1"], env=environment, dimensions=(30, 130),
        encoding="utf-8", timeout=30,
    )  # fmt: skip
    try:
        child.expect(r"\x1b\[\?1049h")  # the other screen
        child.expect("goes on")
        child.expect("bravo +STARLINK-1364 +serving")
        run.grow(len(run))
        child.expect("bravo.*dead")
        run.end()
        child.expect(r"\x1b\[\?1049l")
        child.expect(pexpect.EOF)
        last = _ESCAPES.sub("", child.before or "")
        assert "ended" in last and "was made to fail at 60 s" in last
        assert max(len(line) for line in last.splitlines()) <= 130
        assert len(last.splitlines()) <= 30
    finally:
        child.close(force=True)
    assert child.exitstatus == 0


def test_ctrl_c_leaves_it_with_the_last_state(growing: Callable[[], Growing]) -> None:
    run = growing()
    run.grow(len(run) // 2)
    child = pexpect.spawn(
        HIL[0], [*HIL[1:], "top", str(run.folder)], dimensions=(40, 130), encoding="utf-8", timeout=30
    )
    try:
        child.expect("alpha")
        child.sendintr()
        child.expect(r"\x1b\[\?1049l")
        child.expect("alpha")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert child.exitstatus == 0
