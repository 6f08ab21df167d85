"""The trade-off studies: what they plot is what was counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from ground_controller.studies.heat_ramp import WAYS, heat_ramp_study
from ground_controller.studies.page import write_study
from ground_controller.studies.policy_cells import Cell, Effort
from ground_controller.studies.policy_scene import SCENES
from ground_controller.studies.policy_verdicts import Found
from ground_controller.studies.tradeoff_policies import WEAR_POLICIES, accuracy_study, dropped, waiting, wear_study
from hil_config.door import run
from hil_config.errors import EnvironmentFault

SMALL = replace(SCENES["room"], satellites=4, tokens_s=10.0)
EFFORT = Effort(orbits=2, seeds=2, plans=1, tokens=40, tick_s=240.0)


def quiet(text: str) -> None:
    """Nobody watches."""


def test_more_work_wears_more_and_takes_no_less_time(tmp_path: Path) -> None:
    study = wear_study(SMALL, EFFORT, 1, quiet, (0.5, 1.0))
    throughput, latency = study.charts
    assert [bool(row[5]) for row in study.tables[0].rows] == [False] * 2 + [True] * 4
    assert [curve.name for curve in throughput.curves] == list(WEAR_POLICIES)
    for curve in throughput.curves:
        assert curve.y[0] < curve.y[1] and curve.x == (5.0, 10.0)
    assert all(curve.y[0] <= curve.y[1] for curve in latency.curves)
    assert "served all tokens at every load" in study.text[1] and "of its cores" in study.text[2]
    write_study(tmp_path, study)
    assert "extrapolated" in (tmp_path / "study.html").read_text()
    cells = json.loads((tmp_path / "study.json").read_text())["cells"]
    assert len({(cell["tokens_s"], cell["policy"], cell["seed"]) for cell in cells}) == len(cells) == 2 * 2 * 4


def test_dropped_tokens_are_told_with_policy_and_load() -> None:
    def cells(unserved: float, latency_ms: float) -> Found:
        blank = dict.fromkeys(Cell.__struct_fields__, 0.0)
        of = {"policy": "topk", "unserved": unserved, "latency_ms": latency_ms, "busiest": 0.3}
        return Found([msgspec.convert({**blank, **of, "seed": seed}, Cell) for seed in range(2)])

    found = {"topk": [(5.0, cells(0.0, 100.0)), (200.0, cells(0.25, 110.0))]}
    assert dropped(found).endswith("tokens are dropped: topk at 200 tokens a second (25.0%).")
    assert "at most 10.0% with the load" in waiting(found) and "30% of its cores" in waiting(found)
    assert dropped({"topk": found["topk"][:1]}) == "Every policy served all tokens at every load."


def test_fewer_experts_are_cooler_lighter_and_read_worse() -> None:
    study = accuracy_study(SMALL, EFFORT, 1, quiet, {"top_p": ("top_p p=0.5", "top_p p=0.9")})
    heat, peak, light = study.charts
    topk, knob = heat.curves
    warmth = [float(x) for x in (*knob.x, *topk.x)]
    assert warmth == sorted(warmth) and knob.y[0] > knob.y[1]
    assert [f"{float(curve.x[-1]):.1f}" for curve in peak.curves] == [study.tables[0].rows[n][4] for n in (0, 2)]
    assert float(light.curves[1].x[0]) < float(light.curves[0].x[0]) and "measured under modelled plans" in light.title


def test_the_heat_ramp_draws_every_way_and_the_limit(tmp_path: Path) -> None:
    study = heat_ramp_study(quiet, 360)
    assert len(study.charts[0].curves) == len(WAYS) + 1 and study.charts[0].limit is not None
    hottest = [float(row[1]) for row in study.tables[0].rows]
    assert hottest[-1] < hottest[0] and "measured under modelled plans" in study.charts[-1].title
    write_study(tmp_path, study)
    assert (tmp_path / "heat-ramp-nats.png").stat().st_size > 5_000


def test_a_folder_that_cannot_be_made_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(["study", "heat-ramp", "--out", str(tmp_path / "file" / "page")]) == EnvironmentFault.exit_code
    error, hint = capsys.readouterr().err.splitlines()  # and no word of a step of the work
    assert error.endswith("cannot be made: Not a directory") and "--out" in hint
