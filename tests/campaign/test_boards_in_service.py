"""Boards whose agents are services of their own: a run finds them at the bench's broker, and leaves them running."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from tests.campaign.boards import in_service
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


def test_a_board_elsewhere_needs_a_fixed_broker_and_certificates(tmp_path: Path) -> None:
    bench, plan = write_files(tmp_path / "files", {"boards.1.kind": "debian"}, copy.deepcopy(SHORT))
    done = hil("campaign", "run", str(bench), str(plan), "--out", str(tmp_path / "run"))
    assert done.returncode == 3
    assert "board bravo is debian" in done.stderr and "hil bench init" in done.stderr
    assert not (tmp_path / "run").exists()
