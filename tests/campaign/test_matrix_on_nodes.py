"""A matrix on local nodes: broken off in its first run, gone on with, everything ended."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from tests.campaign.conftest import Starter


def test_broken_off_and_gone_on_with(
    starter: Starter, left_over: Callable[[Path], list[psutil.Process]],
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:  # fmt: skip
    axes = {"policy": {"plain": {"policies.selection": {"name": "topk"}}, "ours": {}}}
    running = starter.start(orbit__duration_s=30, matrix={"axes": axes, "warm_up": 0})
    folder = running.folder
    first = json.loads(_when_there(running.wait_for, folder / "matrix.json"))["cells"][0]["name"]
    running.wait_for(folder / first / "pids.json")
    running.process.send_signal(signal.SIGINT)
    assert running.wait().code == 130
    assert not left_over(folder)
    assert not (folder / "summary.csv").exists()

    done = command("campaign", "resume", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)["summary"]
    assert {row["cell"]["name"] for row in summary["rows"]} == {"plain/s1", "ours/s1"}
    assert all(row["figures"]["tokens"] > 0 for row in summary["rows"])
    assert summary["sources"]["tpot_ms p50"] == ["measured(monotonic clocks of client and gateways)"]
    assert [path.name for path in (folder / "interrupted").iterdir()] == [first.replace("/", "-") + "-1"]
    assert not left_over(folder)


def _when_there(wait_for: Callable[[Path], None], path: Path) -> str:
    wait_for(path)
    return path.read_text()
