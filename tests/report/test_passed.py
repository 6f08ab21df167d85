"""Figures over the orbit weigh what was lived through: not the ticks of a pause, nor those after the orbit's end."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from ground_controller.decision import Decision, encode_decision
from ground_controller.journal import WORK_ENDED, Entry, Journal
from ground_controller.preparation import prepare
from ground_controller.report.links import link_results
from ground_controller.report.metrics import Metrics, measure
from ground_controller.report.nodes import NodeResult
from ground_controller.report.passed import Span, lived_s, passed
from ground_controller.report.sections import limits
from ground_controller.report.terminal import print_metrics, summary_rows
from ground_controller.simulation.run import ANCHOR_NS, simulate
from ground_controller.steering import Action, Steered
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire.messages import ERROR_EDGES_US
from hil_config.wire.schedule_file import decode_schedule

DURATION_S, RATE, STEP_S = 200.0, 10.0, 5.0
END_NS = ANCHOR_NS + round(DURATION_S / RATE * 1e9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run whose last board is below its soft limit of charge from the beginning to the end."""
    campaign = load_campaign(default_path("campaign"))
    orbit = campaign.orbit.model_copy(update={"duration_s": DURATION_S})
    start = (*campaign.twin.start[:3], campaign.twin.start[3].model_copy(update={"charge": 0.30}))
    twin = campaign.twin.model_copy(update={"start": start})
    run = tmp_path_factory.mktemp("passed") / "run"
    wanted = campaign.model_copy(update={"orbit": orbit, "twin": twin})
    simulate(prepare(load_bench(default_path("bench")), wanted), run)
    return run


@pytest.fixture(scope="module")
def plain(folder: Path) -> Metrics:
    return measure(folder)


def _steer(action: Action, at_s: float, to_s: float, rate: float, host_ns: int, tick: int = 0) -> Entry:
    body = msgspec.json.encode(Steered(action, at_s, to_s, rate, host_ns))
    return Entry(tick, at_s, host_ns, "steer", "", "", 0, body)


def _paused(folder: Path, copy: Path, seconds: int) -> Path:
    """The run, paused at its last second for so long, with ten decisions a second."""
    shutil.copytree(folder, copy)
    journal = Journal.reopen(copy)
    last = [msgspec.json.decode(entry.body, type=Decision) for entry in journal.entries("decision")][-2]
    assert last.scenario_s == DURATION_S
    entries = [_steer("pause", DURATION_S, DURATION_S, 0.0, END_NS)]
    for tick in range(10 * seconds):
        body = encode_decision(msgspec.structs.replace(last, tick=last.tick + tick + 2))
        at_ns = END_NS + (tick + 1) * 100_000_000
        entries.append(Entry(last.tick + tick + 2, DURATION_S, at_ns, "decision", "", "", 0, body))
    journal.commit(entries)
    journal.close()
    return copy


def _without_energy(m: Metrics) -> list[NodeResult]:
    """The samples of the tick after the orbit fall into the pause that was put there."""
    nothing = {"gross_j": None, "gross_uncertainty_j": None, "net_j": None, "energy_note": ""}
    return [msgspec.structs.replace(n, **nothing) for n in m.nodes]


def test_the_orbit_and_its_host_time_end_where_the_campaign_says(plain: Metrics) -> None:
    """The tick that writes the last evidence down comes a step later."""
    assert (plain.scenario_s, plain.host_s) == (DURATION_S, DURATION_S / RATE)
    assert plain.tokens_per_s == pytest.approx(plain.tokens * RATE / DURATION_S, abs=1e-3)


def test_a_board_that_never_served_was_out_for_the_whole_orbit(plain: Metrics) -> None:
    assert [node.out_of_service_s for node in plain.nodes] == [0.0, 0.0, 0.0, DURATION_S]


def test_a_board_beyond_a_soft_limit_is_called_what_the_dashboard_calls_it(plain: Metrics) -> None:
    """It got no new work; `out of service` is a board beyond a hard limit."""
    assert "no new work s" in limits(plain) and "out of service" not in limits(plain)


def test_a_pause_adds_host_time_and_nothing_to_the_satellites(folder: Path, plain: Metrics, tmp_path: Path) -> None:
    found = measure(_paused(folder, tmp_path / "run", 60))
    assert (found.scenario_s, found.host_s) == (DURATION_S, DURATION_S / RATE + 60.0)
    assert _without_energy(found) == _without_energy(plain)


def test_boards_that_stay_idle_after_the_work_add_nothing(folder: Path, plain: Metrics, tmp_path: Path) -> None:
    copy = _paused(folder, tmp_path / "run", 60)
    journal = Journal.reopen(copy)
    journal.set_meta(WORK_ENDED, str(END_NS + 1))
    journal.close()
    found = measure(copy)
    assert (found.scenario_s, found.host_s, found.tokens_per_s) == (DURATION_S, 20.0, plain.tokens_per_s)
    assert _without_energy(found) == _without_energy(plain) and found.links == plain.links


def test_of_the_tick_in_which_the_orbit_ends_what_was_left_counts(folder: Path, tmp_path: Path) -> None:
    """A run that was gone on with has its ticks at other moments."""
    shutil.copytree(folder, tmp_path / "run")
    journal = Journal.reopen(tmp_path / "run")
    campaign = json.loads(journal.meta("campaign"))
    campaign["orbit"]["duration_s"] = DURATION_S - 2.0
    journal.set_meta("campaign", json.dumps(campaign))
    found = passed(journal)
    journal.close()
    assert found.decisions[-1].scenario_s == DURATION_S
    assert (found.scenario_s, found.host_s) == (DURATION_S - 2.0, (DURATION_S - 2.0) / RATE)
    assert found.lived_s[-1] == STEP_S - 2.0


def test_nothing_of_a_satellite_is_counted_beyond_the_orbit(tmp_path: Path) -> None:
    """Ticks of 150 orbit seconds in an orbit of 200: the second one ends beyond it. All dies are over 20 C."""
    campaign = load_campaign(default_path("campaign"))
    limits = campaign.twin.limits.model_copy(update={"temperature_soft_c": 20.0})
    wanted = campaign.model_copy(
        update={
            "orbit": campaign.orbit.model_copy(update={"duration_s": DURATION_S}),
            "twin": campaign.twin.model_copy(update={"limits": limits}),
            "control": campaign.control.model_copy(update={"tick_s": 15.0, "plan_ttl_s": 45.0}),
        }
    )
    simulate(prepare(load_bench(default_path("bench")), wanted), tmp_path / "run")
    found = measure(tmp_path / "run")
    assert found.scenario_s == DURATION_S
    assert {node.over_soft_limit_s for node in found.nodes} == {DURATION_S}
    journal = Journal.read(tmp_path / "run")
    one, last = [msgspec.json.decode(entry.body, type=Decision) for entry in journal.entries("decision")][1:3]
    journal.close()
    assert (one.scenario_s, last.scenario_s) == (150.0, 300.0)
    for node, before, after in zip(found.nodes, one.nodes, last.nodes, strict=True):
        assert node.charge_end == pytest.approx(before.charge + (after.charge - before.charge) / 3.0, abs=1e-5)
        assert node.wear == pytest.approx(before.wear + (after.wear - before.wear) / 3.0)


def test_a_seek_is_not_lived_through(folder: Path) -> None:
    """From 10 s to 400 s, and back to 20 s; then a pause and a step of 50 s, which is."""
    journal = Journal.read(folder)
    one = msgspec.json.decode(next(journal.entries("decision")).body, type=Decision)
    journal.close()
    at_s = (0.0, 5.0, 10.0, 405.0, 410.0, 25.0, 30.0, 30.0, 80.0)
    decisions = [msgspec.structs.replace(one, tick=tick, scenario_s=second) for tick, second in enumerate(at_s)]
    found = lived_s(decisions, {3: 390.0, 5: -390.0})
    assert found.tolist() == [0.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 0.0, 50.0]


def test_spans_follow_what_moved_the_clock(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    journal = Journal.reopen(tmp_path / "run")
    second = 1_000_000_000
    journal.commit([
        _steer("pause", 50.0, 50.0, 0.0, ANCHOR_NS + 5 * second), _steer("fault", 50.0, 50.0, 0.0, ANCHOR_NS),
        _steer("resume", 50.0, 50.0, RATE, ANCHOR_NS + 12 * second),
        _steer("seek", 60.0, 150.0, RATE, ANCHOR_NS + 13 * second, tick=13),
    ])  # fmt: skip
    found = passed(journal)
    journal.close()
    assert found.spans == (Span(5.0, 0.0, RATE), Span(7.0, 50.0, 0.0), Span(1.0, 50.0, RATE), Span(5.0, 150.0, RATE))
    assert found.host_s == 18.0


def test_what_a_link_could_carry_is_counted_in_the_run_s_host_time(folder: Path) -> None:
    """Against the schedule sampled: over a part of it, in a pause, and with links as much faster as the orbit."""
    schedule = decode_schedule((folder / "schedule.hsched").read_bytes())
    pair = schedule.header.pairs[0]
    at_s = np.arange(0.005, 100.0, 0.01)
    seen = schedule.sample(at_s)
    bits = float(np.where(seen.up, seen.rate_bit_s, 0.0)[:, 0].sum() * 0.01)
    names = dict(zip(("a", "b"), pair, strict=True))
    table: dict[str, list[Any]] = {
        "node": ["a"], "peer": ["b"], "frames": [1], "bytes": [round(bits / 80.0)], "refused": [0], "lost": [0],
        "cut": [0], "scheduled_us": [1.0], "error_p50_us": [0.0], "error_p99_us": [0.0], "error_max_us": [0.0],
        "error_histogram": [json.dumps([0] * (len(ERROR_EDGES_US) + 1))],
    }  # fmt: skip

    def used(spans: tuple[Span, ...], scale: float = 1.0) -> float:
        (one,) = link_results(table, schedule, names, spans, scale)
        assert one.used is not None
        return one.used

    moving = Span(100.0 / RATE, 0.0, RATE)
    assert used((moving,)) == pytest.approx(1.0, rel=1e-3), "the schedule goes on, the run did not"
    assert used((moving,), RATE) == pytest.approx(0.1, rel=1e-3)
    state = schedule.link(*pair, 0.0)
    still = 8.0 * table["bytes"][0] / (4.0 * state.rate_bit_s)
    assert used((Span(4.0, 0.0, 0.0),)) == pytest.approx(still, rel=1e-3)


def test_the_terminal_names_every_satellite_in_eighty_columns(plain: Metrics) -> None:
    nodes = tuple(msgspec.structs.replace(node, ended="lost", expert_rows=98765) for node in plain.nodes)
    out = io.StringIO()
    print_metrics(msgspec.structs.replace(plain, nodes=nodes), Console(file=out, width=80))
    printed = [line.split() for line in out.getvalue().splitlines()]
    for node in nodes:
        (at,) = [at for at, line in enumerate(printed) if line[:1] == [node.node]]
        assert node.satellite in {printed[at][1], printed[at][1] + printed[at + 1][-1]}


def test_a_run_without_an_end_may_still_go_on(plain: Metrics) -> None:
    (first, what), *_ = summary_rows(msgspec.structs.replace(plain, complete=False))
    assert first == "NOT ENDED" and "goes on or was interrupted" in what
