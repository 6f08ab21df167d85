"""`hil top` in a terminal, over a record that grows, and where there is no terminal."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest
from rich.console import Console

from ground_controller.live.events import Event
from ground_controller.live.follower import Follower, Moment
from ground_controller.live.run_facts import RunFacts
from ground_controller.live.terminal import screen

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


LONG = (
    Event(1, 12.0, "notice", "alpha", "request 17 begins again over alpha, bravo, charlie, delta, alpha, bravo, delta",
          "no token for 6 s, and the gateway of the first slice was silent all the time"),
    Event(2, 14.5, "bad", "bravo", "frame refused (peer charlie, count 1000000)", "sealed for another run"),
    Event(3, 20.0, "notice", "delta", "fault injected (fault " + '{"source":"STARLINK-2617","target":"",' * 8 + "})",
          "asked for by hil control"),
)  # fmt: skip


@pytest.fixture(scope="module")
def moment(simulated: Path) -> tuple[RunFacts, Moment]:
    follower = Follower.open(simulated)
    assert follower is not None
    while follower.read():
        pass
    now = follower.now()
    follower.close()
    assert now is not None
    return follower.facts, now


def _shown(seen: tuple[RunFacts, Moment], events: tuple[Event, ...], width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO())
    with console.capture() as capture:
        console.print(screen(seen[0], seen[1]._replace(events=events), 0.0, seen[0].rate, width, height))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert max(map(len, lines)) <= width and len(lines) <= height
    return lines


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (80, 1_000)])
def test_the_causes_of_long_events_are_whole(moment: tuple[RunFacts, Moment], width: int, height: int) -> None:
    lines = _shown(moment, LONG, width, height)
    first = next(n for n, line in enumerate(lines) if line.startswith("*    20.0 s  delta fault injected"))
    told = " ".join(line.strip() for line in lines[first:])
    causes = [event.cause for event in reversed(LONG) if event.cause in told]
    assert causes == [event.cause for event in reversed(LONG)][: len(causes)], "the newest first, none left out"
    assert len(causes) == 3 if height > 24 else len(causes) >= 1
    assert height == 24 or "…" not in told, "shortened only where there is no room"
    assert all(line.startswith(" " * 13) or line[:2] in {"* ", "! "} for line in lines[first:]), "under its beginning"


def test_events_take_the_room_that_is_left(moment: tuple[RunFacts, Moment]) -> None:
    """Room for two lines behind the newest: what happened to the one before it is shortened, its cause is not."""
    whole = _shown(moment, LONG[1:2], 80, 40)
    lines = _shown(moment, (*LONG[:1], *LONG[1:2]), 80, len(whole) + 2)
    assert lines[: len(whole)] == whole
    rest = " ".join(line.strip() for line in lines[len(whole) :])
    assert rest == f"*    12.0 s  alpha request 17 begins again over alpha, bravo, …: {LONG[0].cause}"
    assert _shown(moment, LONG[:2], 80, len(whole) + 1) == whole, "no line for a cause that does not fit in it"
