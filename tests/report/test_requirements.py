"""Bounds on a run's figures: met, not met, not known; in the report and by exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ground_controller.preparation import prepare
from ground_controller.report.metrics import Metrics, measure
from ground_controller.report.page import report_run
from ground_controller.report.requirements import judge
from ground_controller.simulation.run import simulate
from hil_config.errors import ConfigError
from hil_config.schema.load import config_hash, default_path, load_bench, load_campaign
from hil_config.schema.requirements import Requirement

REQUIRED = """
requirements:
  - {metric: tpot_ms, statistic: p95, at_most: 60000}
  - {metric: charge_end, statistic: min, at_least: 0.999}
  - {metric: degraded_share, at_most: 1}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A campaign file with requirements, and a simulated run of it."""
    home = tmp_path_factory.mktemp("required")
    path = home / "campaign.yaml"
    text = default_path("campaign").read_text().replace("duration_s: 600", "duration_s: 40")
    path.write_text(text + REQUIRED)
    simulate(prepare(load_bench(default_path("bench")), load_campaign(path)), home / "run")
    return path, home / "run"


@pytest.fixture(scope="module")
def metrics(run: tuple[Path, Path]) -> Metrics:
    return measure(run[1])


def test_each_is_judged_with_its_source(metrics: Metrics) -> None:
    assert [(one.metric, one.met) for one in metrics.requirements] == [
        ("tpot_ms", True), ("charge_end", False), ("degraded_share", True),
    ]  # fmt: skip
    times, charge, degraded = metrics.requirements
    assert times.found == metrics.tpot_ms["p95"]
    assert charge.found == min(node.charge_end for node in metrics.nodes)
    assert times.source.startswith("modelled(")  # the run was simulated
    assert charge.source.startswith("modelled(twin")
    assert degraded.source == "counted in the record of a simulated run"
    assert charge.text == f"min of charge_end at least 0.999: found {charge.found:.6g}"


def test_what_is_not_known_is_not_met(metrics: Metrics) -> None:
    unknown = msgspec.structs.replace(metrics, energy_net_j=None, nodes=(), tokens=0, requests=0)
    wanted = [
        Requirement(metric="energy_net_j", at_most=1e9), Requirement(metric="wear", statistic="max", at_most=1.0),
        Requirement(metric="degraded_share", at_most=1.0), Requirement(metric="finished_share", at_least=0.0),
    ]  # fmt: skip
    assert [(one.found, one.met) for one in judge(wanted, unknown)] == [(None, False)] * 4


def test_a_bound_may_be_reached(metrics: Metrics) -> None:
    exact = metrics.tpot_ms["p50"]
    (at_most, at_least) = judge(
        [Requirement(metric="tpot_ms", statistic="p50", at_most=exact),
         Requirement(metric="tpot_ms", statistic="p50", at_least=exact)], metrics,
    )  # fmt: skip
    assert at_most.met
    assert at_least.met


def test_report_and_page_say_it(run: tuple[Path, Path]) -> None:
    page = report_run(run[1]).page.read_text()
    assert "REQUIREMENT NOT MET" in page
    assert [one["met"] for one in json.loads((run[1] / "report.json").read_text())["requirements"]] == [
        True, False, True,
    ]  # fmt: skip


def test_requirements_leave_the_run_the_same(run: tuple[Path, Path]) -> None:
    bench, campaign = load_bench(default_path("bench")), load_campaign(run[0])
    assert config_hash(bench, campaign) == config_hash(bench, campaign.model_copy(update={"requirements": ()}))


@pytest.mark.parametrize(("flag", "code"), [((), 0), (("--require",), 12)])
def test_exit_code_when_asked(run: tuple[Path, Path], tmp_path: Path, flag: tuple[str, ...], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hil_config.door", "simulate", str(default_path("bench")), str(run[0]), "--out",
         str(tmp_path / "run"), *flag],
        capture_output=True, text=True, timeout=120.0, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "requirement met" in done.stdout
    assert ("1 of 3 requirements not met: min of charge_end at least 0.999" in done.stderr) == bool(flag)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{metric: tpot, statistic: p95, at_most: 1}", "requirements[0].metric: found 'tpot', wanted a metric"),
        ("{metric: tpot_ms, at_most: 1}", "requirements[0].statistic: found 'value', wanted p50 or p95"),
        ("{metric: tokens, statistic: max, at_most: 1}", "requirements[0].statistic: found 'max', wanted value"),
        ("{metric: tokens}", "requirements[0].metric: tokens has no bound, wanted one"),
        ("{metric: tokens, at_most: 1, at_least: 1}", "requirements[0].metric: tokens has two bounds"),
    ],
)
def test_place_and_words(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text(default_path("campaign").read_text() + f"requirements:\n  - {text}\n")
    with pytest.raises(ConfigError) as caught:
        load_campaign(path)
    lines = len(path.read_text().splitlines())
    assert caught.value.message.startswith(f"{path}:{lines}:")
    assert words in caught.value.message
