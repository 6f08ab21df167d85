"""The SpaceMoE placement study on a small shell, and its latency model against a sum written out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ground_controller.studies.constellation import Sky, expected_s, paths_s, snapshot_delays
from ground_controller.studies.page import write_study
from ground_controller.studies.spacemoe_cases import Case, Effort, base_case, cases, measure
from ground_controller.studies.spacemoe_placement import compose
from ground_controller.studies.spacemoe_trends import trend_verdicts
from ground_controller.studies.token_time import Sites, Work, draw_experts, token_times
from hil_config.errors import UsageError

SMALL_SKY = Sky(planes=11, per_plane=16, seam=True, snapshots=6)
SMALL_WORK = Work(layers=16, experts=6)
EFFORT = Effort(draws=3, tokens=16, planning=4)


def test_the_order_is_the_published_one_on_a_small_shell_too() -> None:
    found = measure(Case("base", "small", SMALL_SKY, SMALL_WORK), EFFORT)
    assert found.ordered
    assert found.ratio("RandPlace") > 1.5
    assert len(found.token_s["RandPlace"]) == 3 and len(found.token_s["SpaceMoE"]) == 1
    assert all(mean > found.compute_s for values in found.token_s.values() for mean in values)


def test_a_tokens_time_is_the_sum_of_its_layers() -> None:
    """Three planes, two layers, one expert a layer: everything can be added up by hand."""
    sky = Sky(planes=3, per_plane=12, altitude_km=1_500.0, survival=1.0, snapshots=1, turn_rad_s=10.0)
    work = Work(layers=2, experts=1, top_k=1)
    placed = Sites(np.array([0, 14]), np.array([[2], [25]]))
    (found,) = token_times(sky, work, [placed], 5)
    ((a, b, delay),) = snapshot_delays(sky, np.array([0]))
    path = paths_s(36, a, b, delay, np.arange(36))
    wanted = path[0, 2] + path[2, 14] + path[14, 25] + path[25, 0] + 2 * (work.gateway_s + work.expert_s)
    assert found.token_s == pytest.approx(np.full(5, wanted), rel=1e-12)
    assert found.lost == 0.0


def test_compute_is_operations_over_rate() -> None:
    work = Work()
    assert work.layers * work.gateway_s == pytest.approx(0.590, abs=5e-4)
    assert work.layers * work.expert_s == pytest.approx(0.149, abs=5e-4)


def test_experts_are_drawn_by_weight_and_never_twice() -> None:
    weights = np.array([[0.7, 0.1, 0.1, 0.1]])
    chosen = draw_experts(weights, 2, 4_000, np.random.default_rng(1))
    assert (chosen[..., 0] != chosen[..., 1]).all()
    # first pick 0.7, else second: 0.3 x 0.7 / 0.9
    assert (chosen == 0).any(axis=-1).mean() == pytest.approx(0.7 + 0.3 * 0.7 / 0.9, abs=0.03)


def test_the_planner_does_not_know_which_links_will_fail() -> None:
    sky = replace(SMALL_SKY, survival=0.7)
    happened, planned = (next(snapshot_delays(sky, np.array([2]), planning)) for planning in (False, True))
    assert set(zip(happened[0], happened[1], strict=True)) != set(zip(planned[0], planned[1], strict=True))
    assert np.isfinite(expected_s(sky, 2)).all()


def test_a_seam_joins_the_counter_rotating_planes() -> None:
    shut, joined = (
        next(snapshot_delays(replace(SMALL_SKY, survival=1.0, seam=seam), np.array([0]))) for seam in (False, True)
    )
    across = [(a, b) for a, b in zip(joined[0], joined[1], strict=True) if abs(int(a) // 16 - int(b) // 16) == 10]
    assert len(joined[0]) == len(shut[0]) + len(across) and len(across) >= 8
    assert len({a for a, _ in across}) == len(across) == len({b for _, b in across})


def test_one_role_a_satellite_needs_enough_satellites() -> None:
    with pytest.raises(UsageError, match="one role each"):
        measure(Case("base", "", replace(SMALL_SKY, planes=5), SMALL_WORK), EFFORT)


def test_a_shell_whose_satellites_do_not_see_each_other_is_refused() -> None:
    with pytest.raises(UsageError, match="no token got through"):
        token_times(replace(SMALL_SKY, survival=0.0), SMALL_WORK, [Sites(np.arange(16), np.full((16, 6), 20))], 2)


def test_the_study_is_written_whole(tmp_path: Path) -> None:
    """A sweep of the real list of knobs, on the small shell and with few draws: table, trends, page, pictures."""
    small = replace(SMALL_SKY, planes=17, snapshots=1)
    base = Case("base", "small", small, SMALL_WORK)
    few = Effort(draws=1, tokens=4, planning=1)
    todo = [case for case in cases(small, SMALL_WORK) if case.knob != "experts"]
    found = measure(base, few)
    turned = [measure(case, few) for case in [base, *todo]]
    study = compose(base, found, turned, few)
    assert {said for said, _, _ in trend_verdicts(turned)} >= {"latency rises with altitude"}
    write_study(tmp_path, study)
    page = (tmp_path / "study.html").read_text()
    assert page.count("<script") >= len(study.charts) and "https://" not in page.split("</style>")[1][:2_000]
    numbers = json.loads((tmp_path / "study.json").read_text())
    assert len(numbers["sweep"]) == len(todo) + 1 and numbers["provenance"].startswith("modelled")
    assert {path.stem for path in tmp_path.glob("*.png")} == {chart.name for chart in study.charts}


def test_the_base_case_is_the_papers() -> None:
    base = base_case()
    assert (base.sky.count, base.sky.snapshots, base.sky.survival) == (1_056, 200, 0.95)
    assert (base.work.layers, base.work.experts, base.work.top_k) == (32, 8, 2)
