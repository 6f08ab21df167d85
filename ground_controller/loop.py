"""The tick loop. It holds order only: deadline, inbox, journal, apply, decide, journal, publish."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from ground_controller.core import Core
from ground_controller.decision import Decision, encode_decision
from ground_controller.inbox import Inbox
from ground_controller.journal import Entry, Journal
from ground_controller.own_boots import OwnBoots
from ground_controller.steering import Steering
from hil_config.clock import Clock
from hil_config.units import ScenarioSeconds
from hil_config.wire.messages import Watermark
from hil_config.wire.orders import DropShards, LoadShards, SetDuty, SetPower
from hil_config.wire.plan import SelectionPlan


class TickBegan(msgspec.Struct, frozen=True):
    """`lateness_s` in scenario seconds; `decide_us` is the time from draining to the decision of the tick before."""

    tick: int
    scenario_s: float
    lateness_s: float
    decide_us: float


class Outlet(Protocol):
    """Where decisions go."""

    def plan(self, plan: SelectionPlan) -> None: ...

    def duty(self, node: str, order: SetDuty) -> None: ...

    def shards(self, node: str, order: LoadShards | DropShards) -> None: ...

    def power(self, node: str, order: SetPower) -> None: ...

    def watermark(self, mark: Watermark) -> None: ...


class Loop:
    """One run's ticks, each `tick_s` host seconds apart. `decided` hears every decision (progress, client).

    `host_ns`: the monotonic clock that entries are stamped with; a simulation brings its own. `first`: number and
    scenario second of the first tick; `pending`: entries on record that it is to apply.
    """

    def __init__(
        self,
        core: Core,
        journal: Journal,
        inbox: Inbox,
        clock: Clock,
        outlet: Outlet,
        decided: Callable[[Decision], None],
        steering: Steering | None = None,
        host_ns: Callable[[], int] = time.monotonic_ns,
        first: tuple[int, float] = (0, 0.0),
        pending: tuple[Entry, ...] = (),
    ) -> None:
        self._core = core
        self._journal = journal
        self._own = OwnBoots(journal)
        self._inbox = inbox
        self._clock = clock
        self._outlet = outlet
        self._decided = decided
        self._steering = steering
        self._host_ns = host_ns
        self._steered: list[Entry] = list(pending)
        self.tick, self._next_s = first
        self._step_s = core.setting.tick_s * clock.rate
        self._decide_us = 0.0
        self._scenario_s = ScenarioSeconds(self._next_s)

    def run_tick(self) -> Decision:
        """Wait for the next deadline and go through one control step."""
        lateness_s = self._wait()
        scenario_s = self._scenario_s
        begin_s = time.perf_counter()
        began = TickBegan(self.tick, scenario_s, lateness_s, self._decide_us)
        arrivals = self._own.told_apart(self._inbox.drain())
        entries = [self._entry("tick", msgspec.json.encode(began))]
        entries += [Entry(self.tick, scenario_s, *arrival[:6]) for arrival in arrivals]
        fresh = self._journal.commit(entries)
        decision = self._core.advance(self.tick, scenario_s, [*self._steered, *fresh])
        self._steered = []
        self._journal.commit([self._entry("decision", encode_decision(decision))])
        self._decide_us = (time.perf_counter() - begin_s) * 1e6
        self._publish(decision)
        self._decided(decision)
        self.tick += 1
        self._steer()
        return decision

    def _wait(self) -> float:
        """Until the tick is due; a paused clock ticks on at its place. Returns the lateness in scenario seconds."""
        if self._clock.paused:
            self._clock.idle(self._core.setting.tick_s)
            self._scenario_s = self._clock.now()
            return 0.0
        self._scenario_s = ScenarioSeconds(self._next_s)
        self._next_s += self._step_s
        return self._clock.sleep_until(self._scenario_s)

    def _steer(self) -> None:
        """What a person asked for since the last tick: into the journal, then into the world."""
        for path, steered in self._steering.take() if self._steering else ():
            self._scenario_s = ScenarioSeconds(steered.at_s)
            entry = self._entry("steer", msgspec.json.encode(steered))
            self._journal.commit([entry])
            self._steered.append(entry)
            assert self._steering is not None
            self._steering.act(path, steered)
            if steered.action != "fault":
                self._next_s = steered.to_s + self._step_s

    def _entry(self, kind: str, body: bytes) -> Entry:
        return Entry(self.tick, float(self._scenario_s), self._host_ns(), kind, "", "", 0, body)

    def _publish(self, decision: Decision) -> None:
        self._outlet.plan(decision.plan)
        for node, duty in zip(self._core.setting.nodes, decision.duties, strict=True):
            if duty is not None:
                self._outlet.duty(node, duty)
        for node, order in decision.orders:
            if isinstance(order, SetPower):
                self._outlet.power(node, order)
            else:
                self._outlet.shards(node, order)
        for (node, boot_id), seq in self._journal.watermarks().items():
            self._outlet.watermark(Watermark(node=node, boot_id=boot_id, seq=seq, epoch=self._core.epoch))
