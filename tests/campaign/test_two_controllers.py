"""Two controllers at one standing broker: the second is refused while the first lives; a dead one's run goes on."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from ground_controller.journal import Journal
from ground_controller.steering import Request, ask
from tests.campaign.boards import AWAY, InService, in_service, wait_for_decisions
from tests.campaign.conftest import hil


def _epoch(folder: Path) -> int:
    journal = Journal.read(folder)
    try:
        return int(journal.meta("epoch"))
    finally:
        journal.close()


def _boots(folder: Path) -> dict[str, set[str]]:
    """Starts of each agent that are on record with evidence."""
    journal, found = Journal.read(folder), dict[str, set[str]]()
    try:
        for entry in journal.entries("samples"):
            found.setdefault(entry.node, set()).add(entry.boot_id)
    finally:
        journal.close()
    return found


def _refused(bench: InService, tmp_path: Path, pid: int) -> None:
    for options in ((), ("--take-over",)):
        second = bench.run("second", *options)
        assert second.returncode == 11, second.stderr
        assert f"bench demo is commanded by run first (process {pid} on " in second.stderr, second.stderr
        assert ", since 20" in second.stderr
        assert not (tmp_path / "second").exists(), "a refused run leaves nothing"


def test_the_second_controller_is_refused_and_the_run_of_a_dead_one_goes_on(tmp_path: Path) -> None:
    with in_service(tmp_path) as bench, ExitStack() as stack:
        folder = tmp_path / "first"
        first = bench.start(stack, "first", orbit__duration_s=80)
        wait_for_decisions(folder, 3)
        ask(folder, Request("pause"), 30.0)  # the orbit waits while others try
        _refused(bench, tmp_path, first.pid)
        assert first.poll() is None
        epoch, boots = _epoch(folder), _boots(folder)
        first.kill()
        first.wait(10.0)
        done = hil("campaign", "resume", str(folder), "--json")
        assert done.returncode == 0, f"{done.stderr}\n{bench.logs()}"
        metrics = json.loads(done.stdout)["metrics"]
        assert metrics["complete"] and metrics["scenario_s"] >= 80.0, "it was paused when it died, and goes on"
        assert metrics["records_missing"] == {} and metrics["record_gaps"] == {}
        (interruption,) = metrics["interruptions"]
        assert interruption["agents"] == "some started anew" and interruption["epoch"] > epoch
        after = _boots(folder)
        assert {node: after[node] - boots[node] for node in AWAY} == {node: set() for node in AWAY}, "boards lived on"
        assert all(len(after[node] - boots[node]) == 1 for node in ("alpha", "delta"))
        assert [agent.poll() for agent in bench.agents.values()] == [None, None]
        replay = hil("campaign", "replay", str(folder), "--json")
        assert replay.returncode == 0, replay.stderr
        third = bench.run("third")
        assert third.returncode == 0, f"{third.stderr}\n{bench.logs()}"
        assert _epoch(tmp_path / "third") > interruption["epoch"]
