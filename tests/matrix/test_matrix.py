"""Matrices on model nodes, through the commands: run, broken off, gone on with, enough."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ground_controller.journal import Journal
from ground_controller.matrix.begin import plan_of
from ground_controller.matrix.plan import Simulated, read_plan, write_plan
from ground_controller.matrix.run import run_matrix
from ground_controller.preparation import Prepared
from ground_controller.report.metrics import measure
from ground_controller.report.page import report_run
from ground_controller.simulation.run import SimProgress, simulate
from hil_config.schema.load import default_path, load_bench

HIL = (sys.executable, "-m", "hil_config.door")
AXES = """
requirements:
  - {metric: tokens, at_least: 1}
matrix:
  axes:
    policy:
      ours: {policies.selection: {name: lyapunov}}
      plain: {policies.selection: {name: topk}}
"""


def _campaign(folder: Path, more: str, seconds: int = 20) -> Path:
    text = default_path("campaign").read_text().replace("duration_s: 600", f"duration_s: {seconds}")
    path = folder / "campaign.yaml"
    path.write_text(text + AXES + more)
    return path


def _start(path: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*HIL, "simulate", str(default_path("bench")), str(path), "--out", str(out), "--json"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _told(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, errors = process.communicate(timeout=120.0)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_stop_rule_that_is_content(tmp_path: Path) -> None:
    path = _campaign(
        tmp_path,
        "  seeds: [3, 1]\n  stop: {metric: charge_end, statistic: min, within_percent: 20, most_seeds: 9}\n",
        seconds=40,
    )
    told = _told(_start(path, tmp_path / "out"))
    assert told["enough"]
    assert {row["cell"]["name"] for row in told["summary"]["rows"]} == {
        "ours/s1", "ours/s3", "plain/s1", "plain/s3"
    }  # fmt: skip
    assert all(found["charge_end min"]["seeds"] == 2 for found in told["summary"]["means"].values())
    assert told["summary"]["sources"]["charge_end min"] == ["modelled(twin: thermal network and battery)"]
    checked = subprocess.run(
        [*HIL, "campaign", "verify", str(tmp_path / "out"), "--json"],
        capture_output=True, text=True, timeout=120.0, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert set(json.loads(checked.stdout)["runs"]) == {"ours/s1", "ours/s3", "plain/s1", "plain/s3"}
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines()))
    assert [row["run"] for row in rows] == [cell.name for cell in read_plan(tmp_path / "out").cells]
    assert {(row["policy"], row["on"], row["requirements_met"]) for row in rows} == {
        ("ours", "model nodes", "1"), ("plain", "model nodes", "1"),
    }  # fmt: skip
    for row in rows:
        journal = Journal.read(tmp_path / "out" / row["run"])
        campaign = json.loads(journal.meta("campaign"))
        journal.close()
        assert (str(campaign["seed"]), campaign["matrix"]) == (row["seed"], None)


def test_a_cap_that_comes_first(tmp_path: Path) -> None:
    path = _campaign(tmp_path, "  stop: {metric: tokens_per_s, within_percent: 0.0001, most_seeds: 2}\n")
    told = _told(_start(path, tmp_path / "out"))
    assert not told["enough"]
    assert sorted({row["cell"]["seed"] for row in told["summary"]["rows"]}) == [1, 2]


def test_ctrl_c_then_resume(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = _start(_campaign(tmp_path, "  seeds: [1, 2]\n", seconds=40), out)
    pause, deadline = threading.Event(), time.monotonic() + 60.0
    while not (out / "summary.csv").exists():  # written after the first run
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        pause.wait(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60.0)
    assert process.returncode == 130, errors
    checked = subprocess.run(
        [*HIL, "campaign", "verify", str(out), "--json"], capture_output=True, text=True, timeout=120.0, check=False
    )
    said = json.loads(checked.stdout)
    assert checked.returncode == 10 and f"hil campaign resume {out}" in checked.stderr
    assert not said["passed"] and said["missing"] and len(said["missing"]) + len(said["runs"]) == 4
    assert f"hil campaign resume {out}" in errors
    done = {p.parent: p.stat().st_mtime_ns for p in out.glob("*/*/report.json")}
    order = [cell.name for cell in read_plan(out).cells]
    assert 0 < len(done) < 4
    resumed = subprocess.run(
        [*HIL, "campaign", "resume", str(out), "--json"],
        capture_output=True, text=True, timeout=120.0, check=False,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    assert [row["cell"]["name"] for row in json.loads(resumed.stdout)["summary"]["rows"]] == order
    assert {p: (p / "report.json").stat().st_mtime_ns for p in done} == done
    assert read_plan(out).cells[0].name == order[0]


def test_a_report_of_a_run_under_way_does_not_count(tmp_path: Path) -> None:
    """Somebody looks how a run gets on: its figures are those of its end all the same."""
    bench, path = load_bench(default_path("bench")), _campaign(tmp_path, "  seeds: [1]\n")
    plan = plan_of(bench, path, "model nodes", Simulated())

    def watched(prepared: Prepared, folder: Path, done: Callable[[float], None]) -> None:
        def half(progress: SimProgress) -> None:
            if progress.scenario_s == 10.0:
                assert not report_run(folder).metrics.complete

        simulate(prepared, folder, show=half)

    write_plan(tmp_path / "out", plan)
    outcome = run_matrix(tmp_path / "out", plan, watched, lambda *_: None)
    for row in outcome.summary.rows:
        found = measure(tmp_path / "out" / row.cell.name)
        assert found.complete and row.figures["tokens"] == found.tokens
        assert json.loads((tmp_path / "out" / row.cell.name / "report.json").read_text())["complete"]


def test_repeats_are_for_boards(tmp_path: Path) -> None:
    process = _start(_campaign(tmp_path, "  repeats: 2\n"), tmp_path / "out")
    _, errors = process.communicate(timeout=60.0)
    assert process.returncode == 3
    assert "matrix.repeats: found 2, wanted 1 on model nodes" in errors
    assert not (tmp_path / "out").exists()
