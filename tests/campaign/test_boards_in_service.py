"""Boards whose agents are services of their own: a run finds them at the bench's broker, and leaves them running."""

from __future__ import annotations

import copy
import json
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import msgspec

from ground_controller.decision import Decision
from ground_controller.journal import Journal
from ground_controller.own_boots import EARLIER
from hil_config.wire.messages import Record, decode
from tests.campaign.boards import AWAY, in_service, running, wait_for_decisions
from tests.campaign.conftest import HIL, SHORT, hil, write_files


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


def test_a_board_whose_agent_was_started_again_is_had_back_by_going_on_with_the_run(tmp_path: Path) -> None:
    """Until then no plan names it; orders to both its boots were signed."""
    with in_service(tmp_path) as bench, ExitStack() as stack:
        run = bench.start(stack, "run", orbit__duration_s=2_000)
        wait_for_decisions(tmp_path / "run", 5)
        bench.agents["bravo"].kill()
        bench.agents["bravo"].wait(10.0)
        again = [str(word) for word in cast("list[Any]", bench.agents["bravo"].args)]
        stack.enter_context(running(again, tmp_path / "bravo-again.log"))
        wait_for_decisions(tmp_path / "run", 40)
        run.kill()
        run.wait(10.0)
        before = _named(tmp_path / "run")
        assert before[0] and not before[-1], (tmp_path / "bravo-again.log").read_text()
        stack.enter_context(running([*HIL, "campaign", "resume", str(tmp_path / "run")], tmp_path / "resumed.log"))
        wait_for_decisions(tmp_path / "run", len(before) + 5)
        assert _named(tmp_path / "run")[-1], (tmp_path / "resumed.log").read_text()


def _named(folder: Path) -> list[bool]:
    """Whether the plan of each tick names bravo as host of some expert."""
    with closing(Journal.read(folder)) as journal:
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
