"""A node that knows the schedule and the time needs nobody: links change on its own clock, with no broker at all."""

from __future__ import annotations

import time

import numpy as np

from hil_config.clock import PacedClock
from hil_config.units import HostSeconds
from hil_config.wire.link_fault import LinkFault
from hil_config.wire.link_schedule import LinkSchedule, ScheduleHeader
from hil_config.wire.orders import Peer, Prepare
from hil_config.wire.plan import SelectionPlan
from hil_config.wire.schedule_changes import Samples, schedule_of
from node_agent.link.peers import Peers


def half_up() -> LinkSchedule:
    """A and B: 10 ms, up for the first 50 s of 100; 20 Mbit/s."""
    head = ScheduleHeader(
        epoch_utc="2024-10-21T08:20:00Z", duration_s=100.0, step_s=1.0, satellites=("A", "B"),
        pairs=(("A", "B"), ("B", "A")),
    )  # fmt: skip
    t = np.arange(101.0)
    shape = (101, 2)
    up = np.broadcast_to((t < 50.0)[:, None], shape)
    return schedule_of(head, Samples(t, np.full(shape, 0.01), np.full(shape, 2e7), np.zeros(shape), up, np.ones(shape)))


def peers(clock: PacedClock, rate_scale: float = 1.0) -> Peers:
    plan = SelectionPlan(1, 1, 0.0, 1.0, "t", "", 1.0, 1.0, 1, 1, 0.0, ("a", "b"), (), ())
    order = Prepare(
        run="r", peers=(Peer("a", "127.0.0.1:1"), Peer("b", "127.0.0.1:1")), manifest_sha256="", trunk_layers=(),
        experts=(), schedule=b"", schedule_sha256="", satellites={"a": "A", "b": "B"},
        delay_scale=1.0 / rate_scale, hidden_codec="fp32", expert_timeout_s=1.0, plan=plan, rate_scale=rate_scale,
    )  # fmt: skip
    return Peers("a", "boot", order, half_up(), lambda: clock, lambda peer, reason: None)


def test_a_link_goes_down_when_its_second_comes() -> None:
    clock = PacedClock(1_000.0, HostSeconds(time.monotonic()))
    found = peers(clock)
    while clock.now() < 60.0:
        state = found.state("b")
        assert state.up or clock.now() >= 50.0
        clock.idle(0.002)
    clock.idle(0.02)  # a state is looked up anew every 10 ms
    assert not found.state("b").up and not found.reachable("b")


def test_pause_seek_and_faults_are_seen_at_once() -> None:
    clock = PacedClock(1.0, HostSeconds(time.monotonic()))
    found = peers(clock)
    clock.move(time.monotonic(), 10.0, 0.0)
    assert found.state("b").up
    clock.move(time.monotonic(), 80.0, 0.0)
    found.forget()
    assert not found.state("b").up
    clock.move(time.monotonic(), 20.0, 0.0)
    found.inject(LinkFault("A", "B", extra_delay_s=0.5, rate_factor=0.5))
    assert found.state("b").delay_s > 0.5 and found.state("b").rate_bit_s == 1e7
    found.inject(LinkFault("B", start_s=0.0, end_s=30.0, up=False))
    assert not found.state("b").up
    clock.move(time.monotonic(), 30.0, 0.0)
    found.forget()
    assert found.state("b").up


def test_accelerated_links_have_shorter_delays_and_higher_rates() -> None:
    clock = PacedClock(1.0, HostSeconds(time.monotonic()))
    true, fast = peers(clock).state("b"), peers(clock, 10.0).state("b")
    assert fast.delay_s == true.delay_s / 10.0
    assert fast.rate_bit_s == true.rate_bit_s * 10.0
