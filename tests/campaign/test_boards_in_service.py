"""Boards whose agents are services of their own: a run finds them at the bench's broker, and leaves them running."""

from __future__ import annotations

import copy
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import msgspec

from ground_controller.decision import Decision
from ground_controller.interruption import RETURNED, BoardReturned
from ground_controller.journal import Journal
from ground_controller.own_boots import EARLIER
from hil_config.wire.messages import Record, decode
from tests.campaign.boards import AWAY, in_service, running, wait_for_decisions
from tests.campaign.conftest import SHORT, hil, write_files


def test_two_runs_over_boards_in_service_and_processes_of_this_machine(tmp_path: Path) -> None:
    with in_service(tmp_path) as bench:
        for run in ("first", "second"):
            done = bench.run(run)
            assert done.returncode == 0, f"{done.stderr}\n{bench.logs()}"
            metrics = json.loads(done.stdout)["metrics"]
            assert metrics["tokens"] > 10
            assert metrics["records_missing"] == {} and metrics["lost_nodes"] == []
            served = {node["node"]: node["expert_rows"] for node in metrics["nodes"]}
            assert min(served.values()) > 0, served
            assert [agent.poll() for agent in bench.agents.values()] == [None, None], "services outlive a run"
            replay = hil("campaign", "replay", str(tmp_path / run), "--json")
            assert replay.returncode == 0, replay.stderr


def _records(folder: Path) -> dict[bool, Counter[tuple[str, int]]]:
    """How many records of which node and epoch are in a journal: as evidence of another run, and as its own."""
    found: dict[bool, Counter[tuple[str, int]]] = {True: Counter(), False: Counter()}
    with closing(Journal.read(folder)) as journal:
        for entry in journal.entries():
            if entry.seq > 0 and entry.kind != "gap":
                found[entry.kind == EARLIER][entry.node, decode(entry.body, Record).epoch] += 1
    return found


def test_what_boards_hold_of_a_run_whose_controller_died_is_not_counted_in_the_next(tmp_path: Path) -> None:
    with in_service(tmp_path) as bench:
        with ExitStack() as stack:
            dead = bench.start(stack, "dead", orbit__duration_s=400)
            wait_for_decisions(tmp_path / "dead", 5)
            dead.kill()
            dead.wait(10.0)
        done = bench.run("next")
        assert done.returncode == 0, f"{done.stderr}\n{bench.logs()}"
        told = _records(tmp_path / "next")
        epochs = []
        for run in ("dead", "next"):
            with closing(Journal.read(tmp_path / run)) as journal:
                epochs.append(int(journal.meta("epoch")))
        assert {node for node, _ in told[True]} == set(AWAY), "samples at least: the boards went on taking them"
        assert {epoch for _, epoch in told[True]} == {epochs[0]}
        assert {epoch for _, epoch in told[False]} <= {0, epochs[1]}
        assert json.loads(done.stdout)["metrics"]["records_missing"] == {}
        replay = hil("campaign", "replay", str(tmp_path / "next"), "--json")
        assert replay.returncode == 0, replay.stderr

        back = hil("campaign", "resume", str(tmp_path / "dead"), "--json")
        assert back.returncode == 0, f"{back.stderr}\n{bench.logs()}"
        assert json.loads(back.stdout)["metrics"]["record_gaps"] == {}
        with closing(Journal.read(tmp_path / "dead")) as journal:
            assert {node for node, _ in journal.shed()} == set(AWAY), "what the next run took is named by the boards"


def test_a_board_whose_agent_is_started_again_takes_part_again(tmp_path: Path) -> None:
    """In a run with sealed frames and signed orders. While it is away no plan names it; then it serves as before."""
    folder = tmp_path / "run"
    with in_service(tmp_path) as bench, ExitStack() as stack:
        run = bench.start(stack, "run", orbit__duration_s=4_000)
        wait_for_decisions(folder, 5)
        bench.agents["bravo"].kill()
        bench.agents["bravo"].wait(10.0)
        _wait(folder, lambda journal: not _named(journal)[-1])
        again = [str(word) for word in cast("list[Any]", bench.agents["bravo"].args)]
        stack.enter_context(running(again, tmp_path / "bravo-again.log"))
        _wait(folder, lambda journal: journal.count(RETURNED, 1 << 62) == 1)
        with closing(Journal.read(folder, watch=True)) as journal:
            (entry,) = journal.entries(RETURNED)
        found = msgspec.json.decode(entry.body, type=BoardReturned)
        assert (entry.node, found.problem) == ("bravo", ""), (tmp_path / "bravo-again.log").read_text()
        _wait(folder, lambda journal: _named(journal)[-1])
        _wait(folder, lambda journal: _answered(journal, found.boot_id))
        run.send_signal(signal.SIGINT)
        assert run.wait(60.0) == 130
    replay = hil("campaign", "replay", str(folder), "--json")
    assert replay.returncode == 0 and json.loads(replay.stdout)["mismatches"] == 0, replay.stderr


def _answered(journal: Journal, boot_id: str) -> bool:
    """Whether that boot of bravo sent frames to others, was the gateway of steps, and told of its power."""
    of_interest = ("links", "samples", "token")
    found = {e.kind for e in journal.entries(*of_interest) if (e.node, e.boot_id) == ("bravo", boot_id)}
    return found == {*of_interest}


def _wait(folder: Path, wanted: Callable[[Journal], bool]) -> None:
    """Until the record of a run under way is as wanted."""
    deadline, pause = time.monotonic() + 120.0, threading.Event()
    while True:
        with closing(Journal.read(folder, watch=True)) as journal:
            if wanted(journal):
                return
        assert time.monotonic() < deadline
        pause.wait(0.3)


def _named(journal: Journal) -> list[bool]:
    """Whether the plan of each tick names bravo as host of some expert."""
    plans = [msgspec.json.decode(entry.body, type=Decision).plan for entry in journal.entries("decision")]
    return [
        any(plan.nodes[share.node] == "bravo" for layer in plan.layers for hosts in layer.hosts for share in hosts)
        for plan in plans
    ]


def test_a_board_elsewhere_needs_a_fixed_broker_and_certificates(tmp_path: Path) -> None:
    bench, plan = write_files(tmp_path / "files", {"boards.1.kind": "debian"}, copy.deepcopy(SHORT))
    done = hil("campaign", "run", str(bench), str(plan), "--out", str(tmp_path / "run"))
    assert done.returncode == 3
    assert "board bravo is debian" in done.stderr and "hil bench init" in done.stderr
    assert not (tmp_path / "run").exists()
