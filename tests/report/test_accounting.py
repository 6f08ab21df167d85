"""Runs that count work in two ways are never put side by side: not compared, not averaged, not planned."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ground_controller.journal import Journal
from ground_controller.matrix.begin import plan_of
from ground_controller.matrix.plan import Simulated
from ground_controller.report.accounting import AGREE, measure_together, one_accounting
from ground_controller.report.compare import compare
from hil_config.errors import ConfigError, InvalidRunError
from hil_config.schema.load import default_path, load_bench

ROOT = Path(__file__).resolve().parents[2] / "ground_controller"
OF_ONE_RUN = {
    "report/accounting.py", "report/page.py", "run_data.py", "cli/campaign.py", "cli/report.py", "cli/resume.py",
    "cli/simulate.py",
}  # fmt: skip
"""They measure a single run, and `accounting.py` is the way for several."""
HIL = (sys.executable, "-m", "hil_config.door")


def test_the_rule() -> None:
    assert one_accounting([("a", "duty", 10.0), ("b", "duty", 5.0)]) == "duty"
    assert one_accounting([("a", "duty", 1.0), ("b", "once", 1.0)]) == AGREE
    assert one_accounting([("a", "duty", 1.0), ("b", "once", 10.0)]) == "once"
    with pytest.raises(InvalidRunError, match="b counts once"):
        one_accounting([("a", "duty", 10.0), ("b", "once", 10.0)])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A short simulated run of each accounting."""
    home = tmp_path_factory.mktemp("accountings")
    for kind in ("duty", "once"):
        path = home / f"{kind}.yaml"
        text = default_path("campaign").read_text().replace("duration_s: 600", "duration_s: 20")
        assert "accounting: duty" in text
        path.write_text(text.replace("accounting: duty", f"accounting: {kind}"))
        done = subprocess.run(
            [*HIL, "simulate", str(default_path("bench")), str(path), "--out", str(home / kind), "--no-report"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120.0, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return home / "duty", home / "once"


def test_two_runs_are_neither_compared_nor_measured_together(two: tuple[Path, Path]) -> None:
    for together in (lambda: compare(two[0], (two[1],)), lambda: measure_together(two)):
        with pytest.raises(InvalidRunError, match="duty counts duty, once counts once"):
            together()
    assert [one.accounting for one in measure_together((two[0], two[0]))] == ["duty", "duty"]


def test_fidelity_refuses_too(two: tuple[Path, Path]) -> None:
    journal = Journal.reopen(two[1])
    journal.set_meta("simulated", "")
    journal.close()
    done = subprocess.run(
        [*HIL, "fidelity", str(two[1]), str(two[0])], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60.0, check=False,
    )  # fmt: skip
    assert done.returncode == 10, done.stderr


def test_a_matrix_of_both_is_refused_before_it_runs(tmp_path: Path) -> None:
    axes = "matrix:\n  axes:\n    work:\n      all: {twin.accounting: duty}\n      some: {twin.accounting: once}\n"
    path = tmp_path / "campaign.yaml"
    path.write_text(default_path("campaign").read_text() + axes)
    bench = load_bench(default_path("bench"))
    with pytest.raises(ConfigError, match=r"matrix\.axes: work accountings differ"):
        plan_of(bench, path, "model nodes", Simulated())
    path.write_text(default_path("campaign").read_text().replace("rate: 10", "rate: 1") + axes)
    assert len(plan_of(bench, path, "model nodes", Simulated()).campaigns) == 2, "at rate 1 both agree"


def _measures(path: Path) -> bool:
    """Whether a module imports what gives a run's figures."""
    found = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ground_controller.report.")
        for alias in node.names
    }
    together = {"measure_together", "accounting_of_runs", "accounting_of_metrics", "accounting_of_campaigns"}
    return bool(found & {"measure", "report_run", "Metrics"}) and not found & together


def test_whoever_measures_runs_measures_one_or_asks_for_one_accounting() -> None:
    """A new module that takes figures of runs has to say which of the two it is."""
    shown_only = {"cli/run_result.py", "studies/fleet_shape.py"}  # they are given the figures
    passed_on = {"matrix/run.py", "sweep/execute.py"}  # run by run; `matrix.begin` and `sweep.cells` asked before
    strangers = {
        name
        for path in ROOT.rglob("*.py")
        if (name := path.relative_to(ROOT).as_posix()).split("/")[0] != "report" and _measures(path)
    }
    allowed = OF_ONE_RUN | shown_only | passed_on
    assert strangers <= allowed, f"measure several runs with measure_together: {sorted(strangers - allowed)}"
