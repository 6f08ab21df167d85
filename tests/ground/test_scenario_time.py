"""When a sample was taken in the orbit, through pause, resume and seek."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ground_controller.clock_keeper import ClockChecked
from ground_controller.interruption import KIND, RunResumed
from ground_controller.journal import Entry, Journal
from ground_controller.steering import Action, Steered
from ground_controller.telemetry.scenario_time import ScenarioTime
from hil_config.wire.messages import Status, encode

SECOND = 1_000_000_000


def test_through_pause_resume_and_seek(tmp_path: Path) -> None:
    """Rate 10 from host second 100; paused 5 s later; resumed after 20 s; sought to 400 five seconds after that."""
    journal = Journal.create(tmp_path)
    for key, value in (
        ("clock_offsets_ns", json.dumps({"a": [7 * SECOND, 0]})),
        ("anchor_host_ns", str(100 * SECOND)),
        ("campaign", json.dumps({"orbit": {"rate": 10.0}})),
    ):
        journal.set_meta(key, value)
    moves: tuple[tuple[Action, float, float, float, int], ...] = (
        ("pause", 50.0, 50.0, 0.0, 105),
        ("fault", 50.0, 50.0, 0.0, 110),
        ("resume", 50.0, 50.0, 10.0, 125),
        ("seek", 100.0, 400.0, 10.0, 130),
    )
    journal.commit(
        [
            Entry(
                0, at_s, host_s * SECOND, "steer", "", "", 0,
                msgspec.json.encode(Steered(action, at_s, to_s, rate, host_s * SECOND)),
            )
            for action, at_s, to_s, rate, host_s in moves
        ]
    )  # fmt: skip
    when = ScenarioTime(journal)
    journal.close()
    for host_s, scenario_s in (
        (99, -10.0),
        (100, 0.0),
        (104, 40.0),
        (115, 50.0),
        (125, 50.0),
        (129, 90.0),
        (131, 410.0),
    ):
        assert when.of("a", (host_s + 7) * SECOND) == pytest.approx(scenario_s, abs=1e-9)
        together = when.all_of("a", np.array([host_s + 7, 131 + 7]) * SECOND)
        assert together == pytest.approx([scenario_s, 410.0], abs=1e-9)


def test_through_an_interruption_with_new_offsets(tmp_path: Path) -> None:
    """One by one and all at once: stopped at host second 110 (orbit 100), gone on at 150 with a clock that differs."""
    journal = Journal.create(tmp_path)
    for key, value in (
        ("clock_offsets_ns", json.dumps({"a": [7 * SECOND, 0]})),
        ("anchor_host_ns", str(100 * SECOND)),
        ("campaign", json.dumps({"orbit": {"rate": 10.0}})),
    ):
        journal.set_meta(key, value)
    resumed = RunResumed(2, 100.0, 110 * SECOND, 150 * SECOND, 10.0, {"a": (9 * SECOND, 0)}, {}, (), (), "")
    journal.commit([Entry(0, 100.0, 150 * SECOND, KIND, "", "", 0, msgspec.json.encode(resumed))])
    when = ScenarioTime(journal)
    journal.close()
    clock_s = {106: -10.0, 112: 50.0, 130: 100.0, 160: 110.0, 170: 210.0}
    for mono_s, scenario_s in clock_s.items():
        assert when.of("a", mono_s * SECOND) == pytest.approx(scenario_s, abs=1e-9)
    together = when.all_of("a", np.array(list(clock_s)) * SECOND)
    assert together == pytest.approx(list(clock_s.values()), abs=1e-9)


def _online(node: str, boot_id: str, host_s: int, tick: int = 0) -> Entry:
    status = Status(node=node, boot_id=boot_id, state="online")
    return Entry(tick, 0.0, host_s * SECOND, "status", node, boot_id, 0, encode(status))


def _begun(folder: Path) -> Journal:
    """Rate 10 from host second 100; board a is up since long, its clock 50,000 s ahead."""
    journal = Journal.create(folder)
    for key, value in (
        ("clock_offsets_ns", json.dumps({"a": [50_000 * SECOND, 0]})),
        ("anchor_host_ns", str(100 * SECOND)),
        ("campaign", json.dumps({"orbit": {"rate": 10.0}})),
    ):
        journal.set_meta(key, value)
    return journal


def _agree(when: ScenarioTime, boot_id: str, offset_s: int, wanted: dict[int, float]) -> None:
    """Orbit seconds at seconds of the ground's clock, one by one and all at once."""
    mono_ns = np.array([host_s + offset_s for host_s in wanted]) * SECOND
    assert [when.of("a", one, boot_id) for one in mono_ns.tolist()] == pytest.approx(list(wanted.values()), abs=1e-9)
    assert when.all_of("a", mono_ns, boot_id) == pytest.approx(list(wanted.values()), abs=1e-9)


def test_a_board_that_was_started_again_while_the_run_was_interrupted(tmp_path: Path) -> None:
    """Stopped at host second 110, gone on at 150 with a clock that begins anew at 130. What was taken before is read by
    the clock before, and what it took up to 150 belongs to the interruption."""
    journal = _begun(tmp_path)
    offsets, boots = {"a": (-130 * SECOND, 0)}, {"a": "second"}
    resumed = RunResumed(2, 100.0, 110 * SECOND, 150 * SECOND, 10.0, offsets, boots, (), (), "")
    journal.commit([
        _online("a", "first", 90),
        Entry(0, 100.0, 150 * SECOND, KIND, "", "", 0, msgspec.json.encode(resumed)),
        _online("a", "second", 140),
    ])  # fmt: skip
    when = ScenarioTime(journal)
    journal.close()
    _agree(when, "first", 50_000, {100: 0.0, 105: 50.0, 112: 100.0})
    _agree(when, "second", -130, {140: 100.0, 150: 100.0, 160: 200.0})


def test_a_board_that_was_started_again_in_a_run(tmp_path: Path) -> None:
    """From host second 120 on with another clock, which is measured at 130; its agent is started again at 140, and the
    clock of both is found to have drifted."""
    journal = _begun(tmp_path)
    checks = [
        Entry(0, 0.0, at_s * SECOND, "clock_check", "a", "", 0,
              msgspec.json.encode(ClockChecked(offset_ns, 0, drift_ns, True)))
        for at_s, offset_ns, drift_ns in (
            (130, -115 * SECOND, -50_115 * SECOND), (150, -115 * SECOND + 400_000, 400_000),
        )
    ]  # fmt: skip
    journal.commit(
        [_online("a", "first", 90), _online("a", "second", 120), checks[0], _online("a", "third", 140), checks[1]]
    )
    when = ScenarioTime(journal)
    journal.close()
    _agree(when, "first", 50_000, {100: 0.0, 119: 190.0})
    _agree(when, "second", -115, {121: 210.0, 129: 290.0})
    assert when.of("a", 35 * SECOND + 400_000, "third") == pytest.approx(500.0, abs=1e-9)
    assert when.of("a", 50_119 * SECOND) == pytest.approx(190.0, abs=1e-9)


DAY_S = 86_400
PPM = 30.0


def _drifting(folder: Path) -> Journal:
    """A day at rate 1 of a board whose clock gains 30 ppm; checked and corrected once an hour."""
    journal = Journal.create(folder)
    for key, value in (
        ("clock_offsets_ns", json.dumps({"a": [7 * SECOND, 1000], "b": [0, 0]})),
        ("anchor_host_ns", "0"),
        ("campaign", json.dumps({"orbit": {"rate": 1.0, "duration_s": float(DAY_S)}})),
    ):
        journal.set_meta(key, value)
    journal.commit([
        Entry(0, 0.0, at_s * SECOND, "clock_check", "a", "", 0,
              msgspec.json.encode(ClockChecked(_offset_ns(at_s * SECOND), 1000, 1, True)))
        for at_s in range(3_600, DAY_S + 1, 3_600)
    ])  # fmt: skip
    return journal


def _offset_ns(host_ns: int) -> int:
    return 7 * SECOND + round(host_ns * PPM * 1e-6)


def test_a_clock_that_drifts_is_followed(tmp_path: Path) -> None:
    """By its checks, and by straight lines between them: after a day it would be 2.6 s off."""
    journal = _drifting(tmp_path)
    when = ScenarioTime(journal)
    journal.close()
    host_ns = np.array([1, 1_800, 3_600, 50_000, DAY_S - 1], np.int64) * SECOND
    mono_ns = host_ns + np.array([_offset_ns(one) for one in host_ns.tolist()])
    assert np.abs(when.all_host_ns("a", mono_ns) - host_ns).max() < 1_000
    assert [when.of("a", one) for one in mono_ns.tolist()] == pytest.approx((host_ns / SECOND).tolist(), abs=1e-6)
    assert when.host_ns("b", 5 * SECOND) == 5 * SECOND


def test_a_clock_of_another_boot_does_not_bend_the_first_one(tmp_path: Path) -> None:
    journal = _drifting(tmp_path)
    checked = ClockChecked(-40_000 * SECOND, 1000, -40_007 * SECOND, True)
    journal.commit([Entry(0, 0.0, 50_000 * SECOND, "clock_check", "a", "", 0, msgspec.json.encode(checked))])
    when = ScenarioTime(journal)
    journal.close()
    host_ns = 49_000 * SECOND
    assert when.host_ns("a", host_ns + _offset_ns(host_ns)) == pytest.approx(host_ns, abs=1_000)
