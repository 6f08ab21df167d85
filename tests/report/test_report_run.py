"""The report's numbers: parts add up, intervals hold what they should, links tell what became of frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ground_controller.preparation import prepare
from ground_controller.report.answers import Answer, ratio_answer
from ground_controller.report.links import LinkResult, bin_labels, link_results
from ground_controller.report.page import Report, report_run
from ground_controller.report.waterfall import waterfall
from ground_controller.simulation.run import Kill, simulate
from hil_config.errors import InvalidRunError
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire.messages import ERROR_EDGES_US
from hil_config.wire.schedule_file import decode_schedule


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Two hundred seconds of the demonstration's orbit on model nodes."""
    campaign = load_campaign(default_path("campaign"))
    orbit = campaign.orbit.model_copy(update={"duration_s": 200.0})
    folder = tmp_path_factory.mktemp("report") / "run"
    simulate(prepare(load_bench(default_path("bench")), campaign.model_copy(update={"orbit": orbit})), folder)
    return report_run(folder)


def test_parts_of_a_token_add_up(told: Report) -> None:
    m = told.metrics
    assert m.waterfall_tokens > 100
    assert sum(m.waterfall_ms.values()) == pytest.approx(m.waterfall_whole_ms, rel=1e-6)
    assert {"queue", "serialise", "link", "expert", "combine", "hand-over"} < set(m.waterfall_ms)
    assert m.waterfall_ms["link"] > m.waterfall_ms["expert"] > 0.0


def test_answers_have_intervals_and_kinds(told: Report) -> None:
    by_name = {one.name: one for one in told.metrics.answers}
    pace, gross = by_name["time per output token, mean"], by_name["energy gross a token"]
    for one in (pace, gross, by_name["energy net a token"]):
        assert one.low is not None and one.high is not None and one.estimate is not None
        assert one.low < one.estimate < one.high
        assert one.kind == "modelled"
    assert gross.estimate == pytest.approx(told.metrics.gross_j_per_token, rel=0.03)
    assert "idle power from profile" in by_name["energy net a token"].how


def test_energy_of_a_run_that_lost_a_node_is_of_the_whole_run(tmp_path: Path) -> None:
    """Its intervals are of all of the run, and not of the part before the loss."""
    campaign = load_campaign(default_path("campaign"))
    orbit = campaign.orbit.model_copy(update={"duration_s": 200.0})
    prepared = prepare(load_bench(default_path("bench")), campaign.model_copy(update={"orbit": orbit}))
    simulate(prepared, tmp_path / "run", kills=(Kill("bravo", 60.0),))
    m = report_run(tmp_path / "run").metrics
    assert m.lost_nodes == ("bravo",)
    for name, whole in (("gross", m.gross_j_per_token), ("net", m.net_j_per_token)):
        (one,) = [answer for answer in m.answers if answer.name == f"energy {name} a token"]
        assert one.estimate == pytest.approx(whole, rel=0.03)


def test_margins_and_wear(told: Report) -> None:
    m = told.metrics
    for node in m.nodes:
        assert node.temperature_margin_soft_k == pytest.approx(
            m.limits["temperature_soft_c"] - node.temperature_peak_c, abs=1e-3
        )
        assert node.charge_least <= min(node.charge_start, node.charge_end)
        assert node.idle_from == "profile" and node.idle_w is not None
    assert sum(map(sum, m.expert_use)) == sum(node.expert_rows for node in m.nodes)


def test_links_of_a_run_are_whole(told: Report) -> None:
    shaped = [one for one in told.metrics.links if any(one.histogram)]
    assert shaped and all(one.whole for one in shaped)
    assert all(one.used is not None and 0.0 < one.used < 1.0 for one in shaped)


def test_what_a_link_could_carry_counts_its_outages(told: Report) -> None:
    """Against the schedule sampled every tenth of a second."""
    path = told.page.parent / "schedule.hsched"
    schedule = decode_schedule(path.read_bytes())
    time_s = np.arange(0.05, schedule.duration_s, 0.1)
    seen = schedule.sample(time_s)
    could = dict(zip(schedule.header.pairs, np.where(seen.up, seen.rate_bit_s, 0.0).sum(axis=0) * 0.1, strict=True))
    places = {node.node: node.satellite for node in told.metrics.nodes}
    for one in told.metrics.links:
        bits = could[places[one.source], places[one.target]] / told.metrics.rate
        assert one.used == pytest.approx(8 * one.bytes / bits, rel=0.01)


def test_page_and_json_say_the_same(told: Report) -> None:
    page = told.page.read_text(encoding="utf-8")
    written = json.loads((told.page.parent / "report.json").read_text())
    assert written["provenance"] == told.metrics.provenance
    assert page.index('class="provenance"') < page.index("<h1>"), "the provenance comes first"
    for heading in ("Where a token's time goes", "Energy", "Wear", "Links", "Degraded tokens", "Not measured"):
        assert f"<h2>{heading}</h2>" in page
    assert "not measured in this run" in page, "which idle was subtracted"
    assert not [name for name in told.page.parent.iterdir() if name.name.endswith(".part")]


def test_a_link_report_keeps_lost_and_cut_frames() -> None:
    counts = [0] * (len(ERROR_EDGES_US) + 1)
    counts[3] = 90
    table: dict[str, list[Any]] = {
        "node": ["a", "a"], "peer": ["b", "b"], "frames": [90, 10], "bytes": [900, 100], "refused": [1, 0],
        "lost": [2, 1], "cut": [0, 4], "scheduled_us": [1000.0, 2000.0], "error_p50_us": [60.0, 70.0],
        "error_p99_us": [80.0, 75.0], "error_max_us": [99.0, 90.0], "error_histogram": [json.dumps(counts), "[]"],
    }  # fmt: skip
    (one,) = link_results(table, None, {}, ())
    assert (one.frames, one.lost, one.cut, one.refused, one.used) == (100, 3, 4, 1, None)
    assert one.scheduled_us == 1100.0 and one.error_p99_us == 80.0
    assert not one.whole, "10 of 100 frames are in no histogram"
    assert len(bin_labels()) == len(counts)


def test_a_few_frames_of_the_last_interval_may_be_missing() -> None:
    def link(frames: int, shaped: int) -> LinkResult:
        counts = (0, shaped, *(0 for _ in ERROR_EDGES_US[1:]))
        return LinkResult("a", "b", frames, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, counts, None)

    assert link(1000, 976).whole
    assert not link(1000, 975).whole
    assert link(500, 0).whole, "an unshaped link has no histogram"


def test_overlap_is_named_and_unrecorded_tokens_are_counted() -> None:
    tokens: dict[str, list[Any]] = {
        "request": [1, 1, 1], "attempt": [1, 1, 1], "position": [5, 6, 7], "first": [True, False, False],
        "since_us": [9.0, 100.0, 50.0],
    }  # fmt: skip
    steps: dict[str, list[Any]] = {
        "request": [1], "attempt": [1], "start": [5], "rows": [1], "layers": [4], "total_us": [60.0],
        "trunk_us": [30.0],
        "head_us": [0.0], "serialise_us": [10.0], "link_us": [20.0], "queue_us": [0.0], "expert_us": [5.0],
        "combine_us": [1.0],
    }  # fmt: skip
    found = waterfall(tokens, steps, 4)
    assert (found.tokens, found.left_out) == (1, 1)
    assert found.parts_ms["overlap"] == pytest.approx(-0.006)
    assert found.parts_ms["hand-over"] == pytest.approx(0.040)
    assert sum(found.parts_ms.values()) == pytest.approx(found.whole_ms) == pytest.approx(0.1)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """The mean of 40 requests of unlike length, 200 times: a 95 % interval misses it 5 times in 100 on average."""
    rng, missed = np.random.default_rng(5), 0
    for _ in range(200):
        count = rng.integers(5, 50, 40).astype(float)
        took = count * rng.normal(20.0, 3.0, 40)
        one = ratio_answer("pace", "fake", "ms", took.tolist(), count.tolist(), "by request")
        assert one.low is not None and one.high is not None
        missed += not one.low <= 20.0 <= one.high
    assert missed <= 22, "of 200, 10 are expected; 22 or more have a chance of 1 in 2,000"


def test_too_few_parts_give_no_interval() -> None:
    one = ratio_answer("pace", "fake", "ms", [1.0] * 4, [1.0] * 4, "by request")
    assert one == Answer("pace", "fake", "ms", 1.0, None, None, 0.95, 4, "4 parts (by request); at least 5 are needed")
    assert "no interval" in one.text()


def test_no_run_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidRunError, match="not a run folder"):
        report_run(tmp_path)
