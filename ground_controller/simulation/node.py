"""A model node: one or more processors with a queue, the power they draw, and the evidence it sends home."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from ground_controller.inbox import Arrival
from ground_controller.simulation.agenda import Action, Agenda, Window
from ground_controller.simulation.board_model import BoardModel, Work, WorkKind
from hil_config.wire import messages as m
from hil_config.wire.manifest import Precision
from hil_config.wire.orders import DropShards, ExpertHolding, LoadShards, SetDuty, SetPower
from hil_config.wire.provenance import modelled

SAMPLE_S = 0.1
PER_WINDOW = 4
"""Samples of a window that stands for a whole tick; each stands for its part of the tick."""
_NS = 1_000_000_000

Evidence = m.SampleBatch | m.TokenEvidence | m.NodeEvent | m.LinkReport | m.WorkSummary


class Machine:
    """Cores that several local boards share: a piece of work waits for one of them too."""

    def __init__(self, cores: int) -> None:
        self.free_s = [0.0] * cores

    def take(self, ready_s: float, work_s: float) -> float:
        """When a piece that could start at `ready_s` does start."""
        free_s = min(self.free_s)
        start_s = max(ready_s, free_s)
        self.free_s[self.free_s.index(free_s)] = start_s + work_s
        return start_s


class ModelNode:
    """Args:

    put: where arrivals at the ground go.
    machine: the cores it shares, None where it has its own.
    anchor_ns: the host's clock at scenario second 0.
    modes: models of the power modes that it can be ordered into, by name; `power`: the order that it begins under.
    """

    def __init__(
        self,
        name: str,
        model: BoardModel,
        agenda: Agenda,
        window: Window,
        put: Callable[[Arrival], None],
        machine: Machine | None,
        seed: int,
        anchor_ns: int,
        source: str,
        modes: dict[str, BoardModel] | None = None,
        power: SetPower | None = None,
    ) -> None:
        self.name = name
        self._modes = modes or {}
        self._power = power
        self.model = model if power is None else self._modes[power.mode]
        self.boot_id = f"model-{seed}"
        self.duty = SetDuty(True, "")
        self.alive = True
        self.expert_rows = 0
        self._agenda = agenda
        self._window = window
        self._put = put
        self._machine = machine
        self._chance = random.Random(f"{seed} {name}")
        self._anchor_ns = anchor_ns
        self._seq = 0
        self._free_s = [0.0] * self.model.workers
        self._step_s = SAMPLE_S if window.stride == 1 else window.length_s / PER_WINDOW
        self._joules: dict[int, float] = defaultdict(float)
        self._sampled = 0
        self._source = source
        self._works: dict[tuple[str, str], Work] = {}
        self._turn_s = 0.0
        self._held: dict[tuple[int, int], tuple[Precision, ...]] = {}
        self._hz = 1.0 / SAMPLE_S if window.stride == 1 else PER_WINDOW / window.tick_s

    def host_ns(self) -> int:
        """The node's monotonic clock; it is the ground's too."""
        return self._anchor_ns + round(self._window.host_s(self._agenda.now_s) * _NS)

    def say_online(self) -> None:
        power = m.Quantity("power_w", "W", self._hz, modelled(f"board model of {self.model.profile}: {self._source}"))
        status = m.Status(node=self.name, boot_id=self.boot_id, state="serving", quantities=(power,))
        self._put(Arrival(self.host_ns(), "status", self.name, self.boot_id, 0, m.encode(status)))
        if self._power is not None:
            self._tell_power(self._power)

    def die(self) -> None:
        """As its last will would say it."""
        self.alive = False
        status = m.Status(node=self.name, boot_id=self.boot_id, state="offline")
        self._put(Arrival(self.host_ns(), "status", self.name, self.boot_id, 0, m.encode(status)))

    def obey(self, order: SetDuty) -> None:
        if order.in_service != self.duty.in_service:
            name = "ServiceResumed" if order.in_service else "ServiceSuspended"
            self.record("event", m.NodeEvent(name, self.host_ns(), {"reason": order.reason}))
        self.duty = order

    def set_power(self, order: SetPower) -> None:
        """Work that begins from now on takes what it takes in that mode, and draws what it draws there."""
        if not self.alive:
            return
        self.model = self._modes[order.mode]
        self._works.clear()
        busy_s = sorted(self._free_s)
        self._free_s = [self._agenda.now_s] * max(0, self.model.workers - len(busy_s)) + busy_s[-self.model.workers :]
        self._tell_power(order)

    def _tell_power(self, order: SetPower) -> None:
        now: dict[str, str | int | float | bool] = {"duty": 1.0 if order.duty is None else order.duty}
        now |= {"mode": order.mode, "calibrated": self.model.calibrated}
        self.record("event", m.NodeEvent("PowerSet", self.host_ns(), now))

    def out_of_service(self) -> str:
        return "" if self.duty.in_service else f"{self.name} is out of service: {self.duty.reason}"

    def hold(self, experts: Iterable[ExpertHolding]) -> None:
        """Serve these too; of several precisions of an expert the first, unless asked otherwise."""
        for one in experts:
            key, there = (one.layer, one.expert), self._held.get((one.layer, one.expert), ())
            if one.precision not in there:
                self._held[key] = (*there, one.precision)

    def serves(self, layer: int, expert: int, wanted: Precision | None) -> Precision | None:
        """At which precision it would serve an expert; None if it does not hold it so."""
        held = self._held.get((layer, expert), ())
        if wanted is None:
            return held[0] if held else None
        return wanted if wanted in held else None

    def change(self, order: LoadShards | DropShards) -> None:
        """Hold more or less, after the time that takes, and say so. The files lie there, as on a board."""
        kind = "load" if isinstance(order, LoadShards) else "drop"
        self._agenda.at(self._agenda.now_s + self.model.load_us * 1e-6, partial(self._changed, kind, order))

    def _changed(self, kind: str, order: LoadShards | DropShards) -> None:
        if not self.alive:
            return
        held, missing = msgspec.json.encode(order.experts).decode(), list[tuple[int, int]]()
        if isinstance(order, LoadShards):
            if not order.beside:
                for one in order.experts:
                    self._held.pop((one.layer, one.expert), None)
            self.hold(order.experts)
        else:
            missing = [key for key in order.experts if key not in self._held]
            for key in () if missing else order.experts:
                del self._held[key]
        name = "ShardsRefused" if missing else "ShardsChanged"
        details: dict[str, str | int | float | bool] = {"order": kind, "held": held}
        if missing:
            details["reason"] = f"layer {missing[0][0]} expert {missing[0][1]} is not held here"
        self.record("event", m.NodeEvent(name, self.host_ns(), details))

    def record(self, kind: str, body: Evidence) -> None:
        """One piece of evidence, numbered, on its way to the ground at once."""
        self._seq += 1
        at_ns = self.host_ns()
        record = m.Record(node=self.name, boot_id=self.boot_id, seq=self._seq, mono_ns=at_ns, wall_ns=0, body=body)
        self._put(Arrival(at_ns, kind, self.name, self.boot_id, self._seq, m.encode(record)))

    def work(self, kind: WorkKind, precision: str = "any") -> Work:
        """What the board's model says of such work."""
        found = self._works.get((kind, precision))
        if found is None:
            found = self._works[kind, precision] = self.model.work(kind, precision)
        return found

    def compute(
        self, work_us: float, watts: float, then: Callable[[float, float], None], session_us: float = 0.0
    ) -> None:
        """Be busy for `work_us` as soon as a processor is free; `then(queue_us, work_us)` when it is over.

        Args:
            session_us: how much of it waits for its turn where the duty is limited; that wait counts as work.
        """
        work_s = work_us * 1e-6
        if self.model.spread > 0.0:
            work_s *= self._chance.lognormvariate(0.0, self.model.spread)
        now_s = self._agenda.now_s
        free_s = min(self._free_s)
        worker = self._free_s.index(free_s)
        start_s = free_s if free_s > now_s else now_s
        turn_s, rest = 0.0, self.model.rest if session_us > 0.0 else 0.0
        if rest > 0.0:
            turn_s = max(0.0, self._turn_s - start_s)
            start_s += turn_s
        if self._machine is not None:
            start_s = self._machine.take(start_s, work_s)
        end_s = start_s + work_s
        if rest > 0.0:
            self._turn_s = end_s + work_s * rest * session_us / work_us
        self._free_s[worker] = end_s
        self._draw(start_s, end_s, watts)
        waited_us, work_us = (start_s - turn_s - now_s) * 1e6, (work_s + turn_s) * 1e6
        self._agenda.at(end_s, lambda: then(waited_us, work_us) if self.alive else None)

    def later(self, action: Action) -> None:
        """After the time a frame takes from the socket to being looked at."""
        self._agenda.at(self._agenda.now_s + self.model.hop_us * 1e-6, action)

    def _draw(self, start_s: float, end_s: float, watts: float) -> None:
        step_s = self._step_s
        first, last = int(start_s / step_s), int(end_s / step_s)
        if first == last:
            self._joules[first] += (end_s - start_s) * watts
            return
        for i in range(first, last + 1):
            self._joules[i] += max(0.0, min(end_s, (i + 1) * step_s) - max(start_s, i * step_s)) * watts

    def sample(self) -> None:
        """One batch of what was drawn since the last: every sample is the mean over its period, exactly."""
        until = int(self._agenda.now_s / self._step_s + 1e-6)
        if until <= self._sampled or not self.alive:
            return
        stamps, watts = [], []
        for i in range(self._sampled, until):
            host_s = (i + 1) / self._hz
            stamps.append(self._anchor_ns + round(host_s * _NS))
            watts.append(self.model.idle_w + self._joules.pop(i, 0.0) / self._step_s)
        self._sampled = until
        self.record("samples", m.SampleBatch(tuple(stamps), {"power_w": tuple(watts)}))
