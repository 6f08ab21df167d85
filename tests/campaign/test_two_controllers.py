"""Two controllers at one standing broker: the second is refused while the first lives, and follows when it is dead."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

from ground_controller.journal import NAME, Journal
from tests.campaign.boards import InService, in_service


def _wait_for_decisions(folder: Path, count: int) -> None:
    deadline, pause, found = time.monotonic() + 90.0, threading.Event(), 0
    while found < count:
        assert time.monotonic() < deadline, f"{found} decisions in {folder}"
        pause.wait(0.1)
        if (folder / NAME).exists():
            with closing(sqlite3.connect(f"file:{folder / NAME}?mode=ro", uri=True)) as db:
                try:
                    found = db.execute("SELECT COUNT(*) FROM entry WHERE kind = 'decision'").fetchone()[0]
                except sqlite3.OperationalError:
                    continue  # made a moment ago


def _epoch(folder: Path) -> int:
    journal = Journal.read(folder)
    try:
        return int(journal.meta("epoch"))
    finally:
        journal.close()


def _refused(bench: InService, tmp_path: Path, pid: int) -> None:
    for options in ((), ("--take-over",)):
        second = bench.run("second", *options)
        assert second.returncode == 11, second.stderr
        assert f"bench demo is commanded by run first (process {pid} on " in second.stderr, second.stderr
        assert ", since 20" in second.stderr
        assert not (tmp_path / "second").exists(), "a refused run leaves nothing"


def test_the_second_controller_is_refused_and_a_dead_one_is_followed(tmp_path: Path) -> None:
    with in_service(tmp_path) as bench, ExitStack() as stack:
        first = bench.start(stack, "first", orbit__duration_s=3000)
        _wait_for_decisions(tmp_path / "first", 5)
        _refused(bench, tmp_path, first.pid)
        assert first.poll() is None
        first.kill()
        first.wait(10.0)
        third = bench.run("third", orbit__duration_s=20)
        assert third.returncode == 0, f"{third.stderr}\n{bench.logs()}"
        assert json.loads(third.stdout)["metrics"]["records_missing"] == {}
        assert _epoch(tmp_path / "third") > _epoch(tmp_path / "first")
