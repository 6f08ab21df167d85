"""The world as the controller knows it. It changes in `apply` only, entry by entry, in the journal's order."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.admission import Shape
from ground_controller.interruption import KIND as RESUMED
from ground_controller.journal import Entry
from ground_controller.now_table import DelayTable, LightTable
from ground_controller.outlook import look_ahead, orbit_s
from ground_controller.physics.thermal import heating_k
from ground_controller.policies.further import NOTHING_FURTHER, Further
from ground_controller.policies.nodes import NodeColumns
from ground_controller.policies.view import Limits, Outlook, View
from ground_controller.power_modes import ModeControl, Modes
from ground_controller.steering import Steered
from ground_controller.transmit import TransmitLoad
from ground_controller.twin import Accounting, Twin, TwinState, work_power_w
from hil_config.wire import messages as m
from hil_config.wire.importance import Importance
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.manifest import ModelCard
from hil_config.wire.orders import SetDuty, SetPower
from hil_config.wire.plan import GatewaySlice

Float = NDArray[np.float64]

CALL_MEMORY = 0.8
"""Weight of the past in the running mean of calls per second, per tick."""

BATCH_S = 1.0
"""Of a node's samples: a longer tick is charged with the mean of those that it brought, and of no older ones."""

MOST_WAITING = 65_536
"""Layers whose hosts wait to be counted; a clock that stands still would collect them without end."""


@dataclass(frozen=True)
class Setting:
    """What does not change during a run. `holders` and `gateways` come from the placement.

    Sunlight is the factual schedule's; delays that policies see are the predicted one's.
    """

    nodes: tuple[str, ...]
    satellites: tuple[str, ...]
    schedule: LinkSchedule
    predicted: LinkSchedule
    twin: Twin
    twin_start: TwinState
    limits: Limits
    model: ModelCard
    gateways: tuple[GatewaySlice, ...]
    holders: tuple[tuple[tuple[int, ...], ...], ...]
    idle_power_w: tuple[float, ...]
    energy_per_call_j: tuple[float, ...]
    tick_s: float
    rate: float
    accounting: Accounting = "duty"
    importance: Importance | None = None
    further: Further = NOTHING_FURTHER
    modes: Modes | None = None

    @property
    def shape(self) -> Shape:
        """What evidence of the run must fit."""
        return Shape(self.nodes, self.model.layers, self.model.experts)

    @property
    def work_factor(self) -> float:
        """Orbit calls that one call on the bench stands for."""
        return self.rate if self.accounting == "duty" else 1.0


class _Watts(msgspec.Struct, frozen=True):
    """What the world takes from a sample batch, which was checked whole on arrival; nothing else is decoded."""

    power_w: tuple[float | None, ...] | msgspec.UnsetType = msgspec.UNSET
    power_cpu_power_model_w: tuple[float | None, ...] = ()


class _Samples(msgspec.Struct, frozen=True):
    columns: _Watts


class _SampleRecord(msgspec.Struct, frozen=True):
    body: _Samples


class _LayerHosts(msgspec.Struct, frozen=True, array_like=True):
    layer: msgspec.Raw
    scores: msgspec.Raw
    picks: msgspec.Raw
    hosts: bytes


class _Step(msgspec.Struct, frozen=True):
    rows: int
    layers: tuple[_LayerHosts, ...]


class _StepRecord(msgspec.Struct, frozen=True):
    body: _Step


@dataclass
class World:
    """Everything a policy may look at, and the twin. Deterministic: same entries, same steps, same world."""

    setting: Setting
    twin: TwinState = field(init=False)
    scenario_s: float = 0.0
    over_limit_s: Float = field(init=False)
    experts_per_row: float = field(init=False)
    transmit: TransmitLoad = field(init=False)
    powers: tuple[tuple[str, SetPower], ...] = ()

    def __post_init__(self) -> None:
        s, n = self.setting, len(self.setting.nodes)
        self.twin = s.twin_start
        self.over_limit_s = np.zeros(n)
        self.transmit = TransmitLoad(n, s.twin.platform.transmit_j_per_bit)
        self.experts_per_row = float(s.model.routing.top_k)
        self._alive, self._in_service = np.ones(n, np.bool_), np.ones(n, np.bool_)
        self._suspended, self._measured = np.zeros(n, np.bool_), np.ones(n, np.bool_)
        self._in_run = np.ones(n, np.bool_)
        self._boot_id = [""] * n
        self._idle_w = _constant(np.array(s.idle_power_w, float))
        self._power_w = self._idle_w.copy()
        self._batches: dict[int, deque[tuple[float, int]]] = {}
        self._calls, self._calls_per_s = np.zeros(n), np.zeros(n)
        self._picks = self._rows = 0
        self._paused = False
        self._hosts: list[bytes] = []
        self._index = {name: i for i, name in enumerate(s.nodes)}
        self._call_j = _constant(np.array(s.energy_per_call_j, float) * s.work_factor)
        self._call_k = _constant(heating_k(s.twin.platform.thermal, self._call_j))
        self._delays = DelayTable(s.predicted, s.satellites)
        self._light = LightTable(s.schedule, s.satellites)
        self._light_ahead = LightTable(s.predicted, s.satellites)
        self._modes = None if s.modes is None else ModeControl(s.modes, s.limits)

    def apply(self, entry: Entry) -> None:
        """Take one recorded entry into account; kinds that tell nothing about a node pass by."""
        if entry.kind == "steer":
            steered = msgspec.json.decode(entry.body, type=Steered)
            if steered.action == "seek":  # the twin does not live through what is skipped
                self.scenario_s += steered.to_s - steered.at_s
            if steered.action != "fault":  # text is generated on while scenario time stands, tick after tick
                self._paused = steered.rate == 0.0
        elif entry.kind == RESUMED:
            self._paused = False
        index = self._index.get(entry.node)
        if index is None:
            return
        if entry.kind == "status":
            status, boot_id = m.decode(entry.body, m.Status), self._boot_id[index]
            if status.boot_id != boot_id and boot_id and status.state == "offline":
                return  # the will of an earlier boot
            if self._modes is not None and boot_id not in {"", status.boot_id}:
                self._modes.restarted(index)
            if boot_id != status.boot_id:
                self._batches.pop(index, None)
            # An agent that was started again holds no expert and knows nobody, until a controller has told it.
            if status.state == "serving" or boot_id not in {"", status.boot_id}:
                self._in_run[index] = status.state == "serving"
            self._alive[index], self._boot_id[index] = status.state != "offline", status.boot_id
        elif entry.kind == "links":  # bytes to the ground's own peer cross no link of the orbit
            report = m.decode(entry.body, m.Record).body
            if isinstance(report, m.LinkReport) and report.peer in self._index:
                self.transmit.take(index, 8.0 * report.bytes)
        elif entry.boot_id == (self._boot_id[index] or entry.boot_id):
            # What an earlier process of the node hands in late is recorded, but says nothing about now.
            if entry.kind == "samples":
                self._take_samples(index, m.decode(entry.body, _SampleRecord).body.columns)
            elif entry.kind == "token":
                self._take_step(m.decode(entry.body, _StepRecord).body)
            elif entry.kind == "work":
                self._take_work(m.decode(entry.body, m.Record).body)

    def _take_samples(self, index: int, columns: _Watts) -> None:
        measured = columns.power_w
        if not isinstance(measured, msgspec.UnsetType):
            self._measured[index] = any(value is not None for value in measured)
        # Without a plausible reading the twin goes on with the node's model, which the record calls by its name.
        found = measured if self._measured[index] else columns.power_cpu_power_model_w
        watts = () if isinstance(found, msgspec.UnsetType) else [value for value in found if value is not None]
        if watts:
            batches = self._batches.setdefault(index, deque(maxlen=max(1, math.ceil(self.setting.tick_s / BATCH_S))))
            batches.append((float(np.add.reduce(np.array(watts))), len(watts)))
            self._power_w[index] = sum(total for total, _ in batches) / sum(count for _, count in batches)

    def _take_step(self, step: _Step) -> None:
        self._rows += step.rows * len(step.layers)
        self._hosts += [layer.hosts for layer in step.layers]
        if len(self._hosts) > MOST_WAITING:
            self._count_hosts()

    def _count_hosts(self) -> None:
        """Whom the steps since the last tick asked: all at once, for they are many and small."""
        hosts = np.frombuffer(b"".join(self._hosts), "<i2")
        self._hosts.clear()
        hosts = hosts[hosts >= 0]
        self._picks += hosts.size
        count = len(self._calls)
        self._calls += np.bincount(hosts[hosts < count], minlength=count)

    def _take_work(self, work: object) -> None:
        assert isinstance(work, m.WorkSummary)
        self._rows += work.rows
        for host, count in work.expert_rows:
            self._picks += count
            if 0 <= host < len(self._calls):
                self._calls[host] += count

    @property
    def online(self) -> tuple[str, ...]:
        """Nodes that can be spoken to, whether they take part in the run or not."""
        return tuple(node for node, alive in zip(self.setting.nodes, self._alive.tolist(), strict=True) if alive)

    @property
    def suspended(self) -> tuple[str, ...]:
        """Nodes that were ordered out of service and not back."""
        return tuple(node for node, out in zip(self.setting.nodes, self._suspended.tolist(), strict=True) if out)

    def _drawn_w(self) -> Float:
        """What an orbit second is charged with, [N]."""
        s = self.setting
        return work_power_w(s.accounting, np.where(self._alive, self._power_w, 0.0), self._idle_w, s.rate)

    def step(self, scenario_s: float) -> list[SetDuty | None]:
        """Advance the twin to `scenario_s`; returns the orders that its limits call for, per node (or None). Changes of
        power modes are in `powers` then."""
        s = self.setting
        duration = scenario_s - self.scenario_s
        if duration > 0.0:
            light = self._light.at(self.scenario_s + duration / 2)
            sending = self.transmit.release_w(duration / s.rate)
            self.twin = s.twin.step(self.twin, self._drawn_w(), light, duration, sending * s.work_factor / s.rate)
            over = self.twin.temperature_c > s.limits.temperature_soft_c
            self.over_limit_s = self.over_limit_s + np.where(over, duration, 0.0)
        elif self._paused:
            self.transmit.release_w(s.tick_s)  # sent while the twin stood still: no load of a later tick
        self._batches.clear()
        host_s = s.tick_s if self._paused else duration / s.rate
        if host_s > 0.0:
            self._take_calls(host_s)
        self.scenario_s = scenario_s
        if self._modes is not None:
            changed = self._modes.step(self.twin.temperature_c, self.twin.charge)
            self.powers = tuple((s.nodes[index], order) for index, order in changed)
        return self._limit(self.twin.temperature_c, self.twin.charge)

    def _take_calls(self, host_s: float) -> None:
        """What was served in the host seconds of a tick goes into the running means."""
        self._count_hosts()
        self._calls_per_s = CALL_MEMORY * self._calls_per_s + (1 - CALL_MEMORY) * (self._calls / host_s)
        self._calls = np.zeros(len(self.setting.nodes))
        if self._rows:
            used = self._picks / self._rows
            self.experts_per_row = CALL_MEMORY * self.experts_per_row + (1 - CALL_MEMORY) * used
            self._picks = self._rows = 0

    def power_orders(self) -> dict[str, SetPower]:
        """The power mode that holds now, for each node that offers some and where the campaign orders them."""
        held = {} if self._modes is None else self._modes.current()
        return {self.setting.nodes[index]: order for index, order in held.items()}

    def _limit(self, temperature_c: Float, charge: Float) -> list[SetDuty | None]:
        """Soft: the plans give it no new work. Hard: the node itself refuses. Hysteresis brings it back."""
        limits = self.setting.limits
        self._in_service &= ~((temperature_c > limits.temperature_soft_c) | (charge < limits.charge_soft))
        back_c = limits.temperature_soft_c - limits.temperature_hysteresis_c
        self._in_service |= (temperature_c < back_c) & (charge > limits.charge_soft + limits.charge_hysteresis)
        resumed = self._suspended & self._in_service
        hot = temperature_c > limits.temperature_hard_c
        stopped = ~self._suspended & (hot | (charge < limits.charge_hard))
        self._suspended = self._suspended & ~resumed | stopped
        duties: list[SetDuty | None] = [None] * len(charge)
        for i in np.flatnonzero(resumed | stopped).tolist():
            duties[i] = self._duty(float(temperature_c[i]), float(charge[i]), bool(resumed[i]), bool(hot[i]))
        return duties

    def _duty(self, temperature_c: float, charge: float, resumed: bool, hot: bool) -> SetDuty:
        limits = self.setting.limits
        if resumed:
            return SetDuty(True, f"twin: {temperature_c:.1f} C and charge {charge:.1%} are within limits again")
        if hot:
            return SetDuty(False, f"twin: {temperature_c:.1f} C is over {limits.temperature_hard_c:g} C")
        return SetDuty(False, f"twin: charge {charge:.1%} is under {limits.charge_hard:.1%}")

    def view(self, step_s: float, ahead: bool = False) -> View:
        """What a policy sees now; with an outlook if it looks `ahead`."""
        s, twin = self.setting, self.twin
        nodes = NodeColumns(
            names=s.nodes, satellites=s.satellites, alive=self._alive & self._in_run,
            in_service=self._in_service.copy(), temperature_c=twin.temperature_c.copy(), charge=twin.charge.copy(),
            sunlit=self._light.at(self.scenario_s), power_w=self._power_w.copy(), idle_power_w=self._idle_w,
            energy_per_call_j=self._call_j,
            heating_per_call_k=self._call_k, calls_per_s=self._calls_per_s.copy(), harvest_w=twin.harvest_w.copy(),
        )  # fmt: skip
        return View(
            scenario_s=self.scenario_s, step_s=step_s, nodes=nodes, delay_s=self._delays.at(self.scenario_s),
            holders=s.holders, gateways=s.gateways, model=s.model, limits=s.limits,
            experts_per_row=self.experts_per_row, substitute=s.importance.substitute if s.importance else (),
            substitute_error=s.importance.substitute_error if s.importance else (),
            outlook=self._outlook() if ahead else None,
        )  # fmt: skip

    def _outlook(self) -> Outlook:
        """One orbit ahead. Beyond its end the schedule is taken to go on as one orbit before."""
        s, orbit = self.setting, orbit_s(self.setting.twin.platform)

        def light(after_s: Float) -> Float:
            at = self.scenario_s + after_s
            beyond = at - s.predicted.duration_s
            again = np.maximum(at - orbit * np.ceil(beyond / orbit), 0.0)
            return self._light_ahead.many(np.where(beyond > 0.0, again, at))

        return look_ahead(s.twin, self.twin, self._drawn_w(), s.rate, light)


def _constant(values: Float) -> Float:
    values.flags.writeable = False
    return values
