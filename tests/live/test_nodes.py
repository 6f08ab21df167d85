"""Watts that are not of now are not shown as if they were: of boards that died, came back, or say nothing more."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from rich.console import Console

from ground_controller.journal import Entry, Journal
from ground_controller.live.follower import Follower, Moment
from ground_controller.live.nodes import NodeRow
from ground_controller.live.terminal import screen, standing
from hil_config.wire import messages as m
from hil_config.wire.provenance import measured, modelled

if TYPE_CHECKING:
    from tests.live.conftest import Growing

METER = m.Quantity("power_w", "W", 0.5, measured("a slow meter"))
MODEL = m.Quantity("power_cpu_power_model_w", "W", 10.0, modelled("coefficients"))


def _whole(folder: Path) -> Follower:
    follower = Follower.open(folder)
    assert follower is not None
    while follower.read():
        pass
    return follower


def _row(moment: Moment | None, node: str) -> NodeRow:
    assert moment is not None
    return next(row for row in moment.nodes if row.node == node)


def _shown(follower: Follower, node: str, quiet_s: float = 0.0) -> tuple[str, str]:
    """What `hil top` shows: its second line, and the line of a node."""
    console = Console(width=160, file=io.StringIO())
    with console.capture() as capture:
        console.print(screen(follower.facts, follower.now(), quiet_s, follower.rate, 160, 60))
    lines = capture.get().splitlines()
    return lines[1], next(line for line in lines if line[3:].startswith(node))


def test_a_board_that_says_nothing_more_has_no_watts(growing: Callable[[], Growing]) -> None:
    """Its process hangs, say: it is not dead for the broker yet, and its last sample came at 45 s."""
    run = growing()
    run.edit(lambda e: None if (e.kind, e.node) == ("samples", "charlie") and e.tick > 9 else e)
    run.grow(len(run))
    follower = _whole(run.folder)
    row = _row(follower.now(), "charlie")
    assert (row.state, row.power_w, row.power_by, row.last_read_s) == ("serving", None, "", 45.0)
    assert row.temperature_c is not None, "the twin goes on"
    assert "- since 45 s" in _shown(follower, "charlie")[1]
    assert "W modelled" in _shown(follower, "alpha")[1]

    points = {round(point.host_s, 1): point.power_w for point in follower.history.points}
    there = {at_s: bool(np.isfinite(power[2])) for at_s, power in points.items()}
    assert all(shown == (at_s <= 4.5 + 3.0) for at_s, shown in there.items()), there
    for at_s, shown in there.items():
        back = _row(follower.at(at_s), "charlie")
        assert (back.power_w is not None, back.last_read_s) == (shown, None if shown else 45.0)
    follower.close()


def _append(folder: Path, *entries: Entry) -> None:
    journal = Journal.reopen(folder)
    journal.commit(list(entries))
    journal.close()


def test_a_board_that_came_back_has_watts_once_it_says_them(growing: Callable[[], Growing]) -> None:
    run = growing()
    run.grow(len(run))
    journal = Journal.read(run.folder)
    batch = [e for e in journal.entries("samples") if e.node == "bravo"][-1]
    tick = list(journal.entries("decision"))[-1]
    online = next(e for e in journal.entries("status") if e.node == "bravo")
    journal.close()
    follower = _whole(run.folder)
    dead = _row(follower.now(), "bravo")
    assert (dead.state, dead.power_w, dead.last_read_s) == ("dead", None, 60.0)
    assert "- since 60 s" in _shown(follower, "bravo")[1]

    later = tick.host_ns + 500_000_000
    status = msgspec.structs.replace(m.decode(online.body, m.Status), boot_id="model-2")
    _append(
        run.folder,
        online._replace(tick=40, scenario_s=125.0, host_ns=later, boot_id="model-2", body=m.encode(status)),
        tick._replace(tick=40, scenario_s=125.0, host_ns=later),
    )
    follower.read()
    back = _row(follower.now(), "bravo")
    assert (back.state, back.power_w, back.last_read_s) == ("waiting", None, 60.0)

    later += 500_000_000
    _append(
        run.folder,
        batch._replace(tick=41, scenario_s=130.0, host_ns=later, boot_id="model-2", seq=1),
        tick._replace(tick=41, scenario_s=130.0, host_ns=later),
    )
    follower.read()
    heard = _row(follower.now(), "bravo")
    assert heard.power_w is not None and heard.last_read_s is None and heard.power_by.startswith("modelled(board model")
    follower.close()


def _with_a_slow_meter(entry: Entry) -> Entry:
    """Charlie's meter has a batch of its own every two seconds; its other instruments have theirs in between."""
    if entry.node != "charlie":
        return entry
    told = json.loads(entry.body)
    if entry.kind == "status":
        told["quantities"] = msgspec.to_builtins((METER, MODEL))
    elif entry.kind == "samples" and entry.tick % 4:
        told["body"]["columns"]["power_cpu_power_model_w"] = told["body"]["columns"].pop("power_w")
    return entry._replace(body=json.dumps(told).encode())


def test_a_slow_meters_watts_stay_measured_between_its_readings(growing: Callable[[], Growing]) -> None:
    run = growing()
    run.edit(_with_a_slow_meter)
    run.grow(len(run))
    follower = _whole(run.folder)
    for host_s in (4.0, 4.5, 5.0, 5.5, 9.0):
        row = _row(follower.at(host_s), "charlie")
        assert row.power_by == "measured(a slow meter)" and row.power_w is not None, host_s
    now = follower.now()
    assert now is not None and not [event for event in now.events if event.what.startswith("power is")]
    meter, model = follower.readings(follower.facts.nodes.index("charlie"))
    assert (meter.name, meter.at_s, meter.absent) == ("power_w", 120.0, "") and meter.value is not None
    assert (model.name, model.at_s) == ("power_cpu_power_model_w", 115.0) and model.value is not None
    follower.close()


def test_what_is_over_is_not_told_as_of_now(growing: Callable[[], Growing]) -> None:
    run = growing()
    run.grow(len(run))
    follower = _whole(run.folder)
    assert "a second now" in _shown(follower, "alpha")[0]
    assert "a second at its last tick" in _shown(follower, "alpha", quiet_s=1e4)[0]
    run.end()
    assert "a second at its last tick" in _shown(follower, "alpha")[0]
    follower.close()


def test_a_paused_run_does_not_go_on(growing: Callable[[], Growing]) -> None:
    """Ticks go on meanwhile, and text; a fault over a link changes nothing of it."""
    run = growing()
    run.grow(len(run) // 2)
    follower = _whole(run.folder)
    told = []
    for action, rate in (("resume", 10.0), ("pause", 0.0), ("fault", 10.0), ("resume", 10.0)):
        body = msgspec.json.encode({"action": action, "at_s": 30.0, "to_s": 30.0, "rate": rate, "host_ns": 1})
        _append(run.folder, Entry(1, 30.0, 3, "steer", "", "", 0, body))
        assert follower.read() == 1
        told.append(standing(follower.facts, follower.ended, 0.0, follower.rate))
    assert told == ["goes on", "paused", "paused", "goes on"]
    follower.close()
