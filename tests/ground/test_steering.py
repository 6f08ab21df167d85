"""Requests that wait together: each is planned where the one before left the run."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from ground_controller.journal import Entry
from ground_controller.preparation import prepare
from ground_controller.steering import FOLDER, ClockAction, Request, Steering, answer_path, leave_request
from ground_controller.world import World
from hil_config.clock import PacedClock
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.units import HostSeconds


def _steering(folder: Path) -> Steering:
    def announce(action: ClockAction, host_ns: int, scenario_s: float, rate: float) -> None:
        """Nobody is there to be told."""

    clock = PacedClock(10.0, HostSeconds(time.monotonic()), 0.0, hold=True)
    return Steering(folder, clock, 600.0, 0.5, ("A",), announce, lambda fault: None)


def test_two_seeks_at_once_leave_the_twin_where_the_clock_is(tmp_path: Path) -> None:
    steering = _steering(tmp_path)
    for to_s in (100.0, 300.0):
        leave_request(tmp_path, Request("seek", to_s))
    world = World(prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign"))).setting)
    begun_s, first_s = world.scenario_s, None
    for path, steered in steering.take():
        first_s = steered.at_s if first_s is None else first_s
        world.apply(Entry(0, steered.at_s, 0, "steer", "", "", 0, msgspec.json.encode(steered)))
        steering.act(path, steered)
    assert first_s is not None
    assert world.scenario_s - begun_s == pytest.approx(300.0 - first_s, abs=1e-9)


def test_a_step_that_waits_behind_a_pause_is_taken(tmp_path: Path) -> None:
    steering = _steering(tmp_path)
    left = [leave_request(tmp_path, request) for request in (Request("pause"), Request("step", 7.0))]
    taken = []
    for path, steered in steering.take():
        steering.act(path, steered)
        taken.append(steered)
    assert [one.action for one in taken] == ["pause", "step"]
    assert taken[1].to_s == pytest.approx(taken[0].at_s + 7.0)
    assert all(answer_path(path).exists() and not path.exists() for path in left)


def test_a_request_that_was_withdrawn_harms_nobody(tmp_path: Path) -> None:
    """Whoever asked gave up between the look at the folder and the reading, or before the answer."""
    steering = _steering(tmp_path)
    left = [leave_request(tmp_path, Request("pause")) for _ in range(3)]
    acted = []
    for path, steered in steering.take():
        left[1].unlink(missing_ok=True)
        path.unlink()
        steering.act(path, steered)
        acted.append(path)
    assert acted == [left[0], left[2]]
    assert not list((tmp_path / FOLDER).glob("*.request.json"))
