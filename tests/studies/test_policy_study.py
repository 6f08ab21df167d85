"""The policy study: what the model costs under a plan, one policy's loop, its bound, and the finished page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ground_controller.core import Core
from ground_controller.policies.registry import selection_policy
from ground_controller.studies.offline_bound import demand_of, lower_bound
from ground_controller.studies.page import write_study
from ground_controller.studies.policy_cells import IDLE, Cell, Effort, measure_nats, named, run_all
from ground_controller.studies.policy_loop import PolicyLoop
from ground_controller.studies.policy_scene import SCENES, Stage, scene_of, stage
from ground_controller.studies.policy_study import claim_text, compose
from ground_controller.studies.policy_verdicts import Found, rivals, wins
from hil_config.errors import UsageError
from hil_config.wire.plan import SelectionPlan
from models.oracle import Oracle
from models.planned import PlannedModel, choice_key

SMALL = replace(SCENES["tight"], satellites=4, tokens_s=10.0)
TICK_S = 60.0


@pytest.fixture(scope="module")
def small() -> Stage:
    return stage(SMALL, 0, 2, TICK_S)


def _plan(small: Stage, policy: str) -> SelectionPlan:
    return Core(small.setting, selection_policy(policy, {}), 1, TICK_S).advance(0, 0.0, []).plan


def test_under_topk_the_planned_model_is_the_model(small: Stage) -> None:
    tokens = [0, *range(40, 90)]
    planned, plain = PlannedModel(small.prepared.shards), Oracle(small.prepared.shards)
    planned.under(_plan(small, "topk"))
    assert planned.nll(tokens) == pytest.approx(plain.nll(tokens), abs=1e-5)


def test_fewer_experts_cost_nats_and_a_lost_expert_is_left_out(small: Stage) -> None:
    plan = _plan(small, "topk")
    one = msgspec.structs.replace(plan, k_min=1, k_max=1)
    full, less = (measure_nats(small.prepared.shards, 60, each) for each in (plan, one))
    assert less > full + 0.01
    layers = tuple(msgspec.structs.replace(layer, hosts=((), *layer.hosts[1:])) for layer in plan.layers)
    lost = msgspec.structs.replace(plan, layers=layers)
    assert measure_nats(small.prepared.shards, 60, lost) != full


def test_a_substitute_that_is_picked_too_counts_with_both_weights(small: Stage) -> None:
    """Every expert is served by expert 0: the weights of a row's picks come together on it."""
    plan = _plan(small, "topk")
    layers = tuple(msgspec.structs.replace(layer, substitute=(-1, *(0,) * 15)) for layer in plan.layers)
    model = PlannedModel(small.prepared.shards)
    model.under(msgspec.structs.replace(plan, layers=layers))
    picks, weights = model.choose(0, small.scores[0, :5])
    assert (picks[:, 0] == 0).all() and (picks[:, 1] == -1).all()
    assert weights[:, 0] == pytest.approx(np.ones(5), abs=1e-6)


def test_summed_host_by_host_a_layer_is_the_same(small: Stage) -> None:
    """Over links that change nothing; experts 1 and 2 are served by 3, which rows pick for itself too."""
    plan = _plan(small, "topk")
    layers = tuple(msgspec.structs.replace(layer, substitute=(-1, 3, 3, *(-1,) * 13)) for layer in plan.layers)
    scores = small.scores[0]
    rows = np.random.default_rng(1).standard_normal((len(scores), 128)).astype(np.float32)
    sums = []
    for codec in (None, lambda _source, _target: "fp32"):
        model = PlannedModel(small.prepared.shards, codec=codec)
        model.under(msgspec.structs.replace(plan, layers=layers), request=7)
        sums.append(model.mix(0, rows, scores))
        assert model.picked > 0 and model.rows == len(rows)
    assert sums[1] == pytest.approx(sums[0], rel=1e-5, abs=1e-5), "but for the order of additions"
    assert np.abs(sums[0] - Oracle(small.prepared.shards).mix(0, rows, scores)).max() > 0.01, "the plan has its effect"


def test_plans_that_differ_only_in_hosts_count_as_one(small: Stage) -> None:
    plan = _plan(small, "topk")
    turned = tuple(
        msgspec.structs.replace(layer, hosts=tuple(held[::-1] for held in layer.hosts)) for layer in plan.layers
    )
    assert choice_key(msgspec.structs.replace(plan, layers=turned)) == choice_key(plan)
    assert choice_key(msgspec.structs.replace(plan, k_max=1)) != choice_key(plan)


def test_a_loop_accounts_for_every_watt_and_byte(small: Stage) -> None:
    """All of topk's mass is served, the twin is charged with what the boards drew, and a seed gives the same again."""
    loop = PolicyLoop(small, "topk", {}, TICK_S)
    course = loop.run(12, {5})
    scene, layers = small.scene, small.setting.model.layers
    wanted_w = scene.tokens_s * layers * (2 * scene.call_j + scene.trunk_j)
    assert course.experts_w.sum(axis=1) == pytest.approx(np.full(12, wanted_w))
    assert course.kept == pytest.approx(np.ones(12), abs=1e-6) and course.sampled == [5]
    radio_j = loop._core.world.transmit.joules.sum()
    drawn_j = course.power_w.sum() * TICK_S + radio_j + 4 * small.setting.twin.platform.base_load_w * 12 * TICK_S
    assert loop._core.world.twin.load_j.sum() == pytest.approx(drawn_j, rel=1e-9)
    again = PolicyLoop(small, "topk", {}, TICK_S).run(12, set())
    assert np.array_equal(again.wear, course.wear) and np.array_equal(again.latency_s, course.latency_s)


def test_no_policy_wears_less_than_the_bound(small: Stage) -> None:
    ticks = 40
    idle = PolicyLoop(small, "topk", {}, TICK_S, 0.0).run(ticks, set())
    lit = lower_bound(small, idle, TICK_S, heat=False)
    cool = lower_bound(small, idle, TICK_S, heat=True)
    worn = {name: PolicyLoop(small, name, {}, TICK_S).run(ticks, set()).wear[-1].mean() for name in ("topk", "horizon")}
    assert lit.solved and cool.solved
    assert idle.wear[-1].mean() < lit.wear <= cool.wear + 1e-9 < min(worn.values())
    assert lit.wear < lit.twin_wear and cool.wear < cool.twin_wear
    assert cool.twin_peak_c <= small.setting.limits.temperature_soft_c + 1e-3


def test_the_bound_has_all_the_work_in_it(small: Stage) -> None:
    demand = demand_of(small, 5)
    scene, layers = small.scene, small.setting.model.layers
    assert demand.watts.sum(axis=1) == pytest.approx(
        np.full(5, scene.tokens_s * layers * (2 * scene.call_j + scene.trunk_j))
    )


def _cell(policy: str, seed: int, wear: float, nats: float, unserved: float = 0.0) -> Cell:
    numbers = dict.fromkeys(Cell.__struct_fields__[2:], 1.0)
    numbers |= {"wear_year": wear, "nats": nats, "unserved": unserved, "over_k_s": 0.0}
    return Cell(policy, seed, **numbers)


def test_verdicts_compare_only_what_is_comparable() -> None:
    """`less` drops tokens; `other` differs by noise; `poor` wears less but reads worse."""
    cells = []
    for seed, noise in enumerate((0.01, -0.02, 0.03, -0.01, 0.0)):
        cells += [
            _cell(IDLE, seed, 1.0, 2.0), _cell("topk", seed, 10.0 + seed, 2.0), _cell("horizon", seed, 9.0 + seed, 2.0),
            _cell("other", seed, 9.0 + seed + noise, 2.0), _cell("poor", seed, 5.0 + seed, 2.5),
            _cell("less", seed, 3.0, 2.0, unserved=0.2),
        ]  # fmt: skip
    found = Found(cells)
    policies = [p for p in found.policies if p != IDLE]
    won = {win.axis.key: win for win in wins(found, policies)}
    assert won["wear_year"].best == "poor" and won["wear_year"].left_out == ("less",)
    assert set(won["nats"].tied) == {"horizon", "other"} and won["nats"].best == "topk"
    beside = {rival.policy: rival for rival in rivals(found, "horizon", policies)}
    assert set(beside) == {"topk", "other", "poor"} and not beside["poor"].equal
    assert beside["topk"].wear.verdict == "lower" and beside["other"].wear.verdict == "not distinguishable"
    text = claim_text(found, "horizon", list(beside.values()))
    assert "NOT borne out" in text and "wears less than topk, not distinguishably from other" in text


def test_a_difference_that_is_not_known_is_no_equality() -> None:
    """Two seeds: the interval of the noisy one holds 0, and half of a nat as well."""
    cells = [
        _cell(policy, seed, 9.0, nats)
        for policy, each in {"horizon": (2.0, 2.0), "noisy": (2.02, 2.09), "same": (2.0001, 1.9999)}.items()
        for seed, nats in enumerate(each)
    ]
    found = Found(cells)
    beside = {rival.policy: rival for rival in rivals(found, "horizon", ["noisy", "same"])}
    assert not beside["noisy"].nats.distinguishable and not beside["noisy"].equal and beside["same"].equal
    assert "Of 1 policies of equal perplexity" in claim_text(found, "horizon", list(beside.values()))
    assert "was shown to have" in claim_text(found, "horizon", [beside["noisy"]])
    unread = Found([*cells, *(_cell("unread", seed, 9.0, nats) for seed, nats in enumerate((2.0, float("nan"))))])
    assert [rival.policy for rival in rivals(unread, "horizon", ["same", "unread"])] == ["same"]


def test_the_study_is_written_whole(tmp_path: Path) -> None:
    effort = Effort(orbits=2, seeds=2, plans=1, tokens=40, tick_s=240.0)
    policies = ["horizon", "horizon coverage=0.8", "topk"]
    cells, bounds = run_all(SMALL, policies, effort, 1, True)
    study = compose(SMALL, effort, policies, cells, bounds)
    assert study.command.endswith(
        " --seeds 2 --orbits 2 --plans 1 --policy horizon --policy 'horizon coverage=0.8' --policy topk"
    )
    write_study(tmp_path, study)
    numbers = json.loads((tmp_path / "study.json").read_text())
    assert len(numbers["cells"]) == 8 and len(numbers["bounds"]) == 2 and all(b["solved"] for b in numbers["bounds"])
    assert numbers["provenance"].startswith("modelled") and "Measured: nats" in numbers["provenance"]
    nats = {cell["policy"]: cell["nats"] for cell in numbers["cells"]}
    assert nats["horizon coverage=0.8"] > nats["topk"]
    page = (tmp_path / "study.html").read_text()
    assert "not distinguishable" in page and "extrapolated over a year" in page
    assert {path.stem for path in tmp_path.glob("*.png")} == {chart.name for chart in study.charts}


def test_an_unknown_scene_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="no scene 'cold'") as error:
        scene_of("cold")
    assert "tight, room, hot" in str(error.value.hint)


def test_a_policy_with_options_is_written_in_one_text() -> None:
    assert named("horizon coverage=0.8 rounds=20") == ("horizon", {"coverage": 0.8, "rounds": 20})
    for wrong in ("topk p", "topk p=x"):
        with pytest.raises(UsageError, match="is no option"):
            named(wrong)
    for wrong, why in (("  ", "has no name"), ("top_p p=0.5 p=0.6", "p is there twice")):
        with pytest.raises(UsageError, match=why):
            named(wrong)
