"""The world as the controller knows it. It changes in `apply` only, entry by entry, in the journal's order."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.journal import Entry
from ground_controller.outlook import look_ahead, orbit_s
from ground_controller.physics.thermal import heating_k
from ground_controller.policies.further import NOTHING_FURTHER, Further
from ground_controller.policies.view import Limits, NodeView, Outlook, View
from ground_controller.steering import Steered
from ground_controller.transmit import TransmitLoad
from ground_controller.twin import Accounting, Twin, TwinState, work_power_w
from hil_config.wire import messages as m
from hil_config.wire.importance import Importance
from hil_config.wire.manifest import ModelCard
from hil_config.wire.orders import SetDuty
from hil_config.wire.plan import GatewaySlice
from hil_config.wire.schedule_file import LinkSchedule

CALL_MEMORY = 0.8
"""Weight of the past in the running mean of calls per second, per tick."""


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

    @property
    def work_factor(self) -> float:
        """Orbit calls that one call on the bench stands for."""
        return self.rate if self.accounting == "duty" else 1.0


@dataclass
class _Node:
    alive: bool = True
    in_service: bool = True
    suspended: bool = False
    boot_id: str = ""
    power_w: float = 0.0
    measured: bool = True
    calls: int = 0
    calls_per_s: float = 0.0


@dataclass
class World:
    """Everything a policy may look at, and the twin. Deterministic: same entries, same steps, same world."""

    setting: Setting
    twin: TwinState = field(init=False)
    scenario_s: float = 0.0
    over_limit_s: NDArray[np.float64] = field(init=False)
    experts_per_row: float = field(init=False)
    nodes: list[_Node] = field(init=False)
    transmit: TransmitLoad = field(init=False)

    def __post_init__(self) -> None:
        s = self.setting
        self.twin = s.twin_start
        self.nodes = [_Node(power_w=idle) for idle in s.idle_power_w]
        self.over_limit_s = np.zeros(len(s.nodes))
        self.transmit = TransmitLoad(len(s.nodes), s.twin.platform.transmit_j_per_bit)
        self.experts_per_row = float(s.model.routing.top_k)
        self._picks = self._rows = 0
        self._index = {name: i for i, name in enumerate(s.nodes)}

    def apply(self, entry: Entry) -> None:
        """Take one recorded entry into account; kinds that tell nothing about a node pass by."""
        if entry.kind == "steer":
            steered = msgspec.json.decode(entry.body, type=Steered)
            if steered.action == "seek":  # the twin does not live through what is skipped
                self.scenario_s += steered.to_s - steered.at_s
        index = self._index.get(entry.node)
        if index is None:
            return
        node = self.nodes[index]
        if entry.kind == "status":
            status = m.decode(entry.body, m.Status)
            if status.boot_id != node.boot_id and node.boot_id and status.state == "offline":
                return  # the will of an earlier boot
            node.alive, node.boot_id = status.state != "offline", status.boot_id
        elif entry.kind == "links":  # bytes to the ground's own peer cross no link of the orbit
            report = m.decode(entry.body, m.Record).body
            if isinstance(report, m.LinkReport) and report.peer in self._index:
                self.transmit.take(index, 8.0 * report.bytes)
        elif entry.kind in {"samples", "token", "work"} and entry.boot_id == (node.boot_id or entry.boot_id):
            # What an earlier process of the node hands in late is recorded, but says nothing about now.
            self._take_evidence(node, m.decode(entry.body, m.Record).body)

    def _take_evidence(self, node: _Node, body: object) -> None:
        if isinstance(body, m.SampleBatch):
            if "power_w" in body.columns:
                node.measured = any(value is not None for value in body.columns["power_w"])
            # Without a plausible reading the twin goes on with the node's model, which the record calls by its name.
            column = "power_w" if node.measured else "power_cpu_power_model_w"
            watts = [value for value in body.columns.get(column, ()) if value is not None]
            if watts:
                node.power_w = float(np.mean(watts))
        elif isinstance(body, m.WorkSummary):
            self._rows += body.rows
            for host, count in body.expert_rows:
                self._picks += count
                if 0 <= host < len(self.nodes):
                    self.nodes[host].calls += count
        elif isinstance(body, m.TokenEvidence):
            for layer in body.layers:
                hosts = np.frombuffer(layer.hosts, "<i2")
                self._rows += body.rows
                self._picks += int((hosts >= 0).sum())
                for host, count in zip(*np.unique(hosts[hosts >= 0], return_counts=True), strict=True):
                    if host < len(self.nodes):
                        self.nodes[host].calls += int(count)

    def step(self, scenario_s: float) -> list[SetDuty | None]:
        """Advance the twin to `scenario_s`; returns the orders that its limits call for, per node (or None)."""
        s = self.setting
        duration = scenario_s - self.scenario_s
        if duration > 0.0:
            middle = self.scenario_s + duration / 2
            light = np.array([s.schedule.illumination(name, middle) for name in s.satellites])
            drawn = np.array([node.power_w if node.alive else 0.0 for node in self.nodes])
            sending = self.transmit.release_w(duration / s.rate)
            power = work_power_w(s.accounting, drawn, np.array(s.idle_power_w), s.rate)
            self.twin = s.twin.step(self.twin, power, light, duration, sending * s.work_factor / s.rate)
            over = self.twin.temperature_c > s.limits.temperature_soft_c
            self.over_limit_s = self.over_limit_s + np.where(over, duration, 0.0)
            for node in self.nodes:
                fresh = node.calls / (duration / s.rate)
                node.calls_per_s = CALL_MEMORY * node.calls_per_s + (1 - CALL_MEMORY) * fresh
                node.calls = 0
            if self._rows:
                fresh = self._picks / self._rows
                self.experts_per_row = CALL_MEMORY * self.experts_per_row + (1 - CALL_MEMORY) * fresh
                self._picks = self._rows = 0
        self.scenario_s = scenario_s
        charge = self.twin.charge
        return [self._limit(i, float(self.twin.temperature_c[i]), float(charge[i])) for i in range(len(self.nodes))]

    def _limit(self, index: int, temperature_c: float, charge: float) -> SetDuty | None:
        """Soft: the plans give it no new work. Hard: the node itself refuses. Hysteresis brings it back."""
        limits, node = self.setting.limits, self.nodes[index]
        if temperature_c > limits.temperature_soft_c or charge < limits.charge_soft:
            node.in_service = False
        back_c = limits.temperature_soft_c - limits.temperature_hysteresis_c
        if temperature_c < back_c and charge > limits.charge_soft + limits.charge_hysteresis:
            node.in_service = True
        if node.in_service and node.suspended:
            node.suspended = False
            return SetDuty(True, f"twin: {temperature_c:.1f} C and charge {charge:.1%} are within limits again")
        hot = temperature_c > limits.temperature_hard_c
        if not node.suspended and (hot or charge < limits.charge_hard):
            node.suspended = True
            if hot:
                return SetDuty(False, f"twin: {temperature_c:.1f} C is over {limits.temperature_hard_c:g} C")
            return SetDuty(False, f"twin: charge {charge:.1%} is under {limits.charge_hard:.1%}")
        return None

    def view(self, step_s: float, ahead: bool = False) -> View:
        """What a policy sees now; with an outlook if it looks `ahead`."""
        s = self.setting
        charge = self.twin.charge
        nodes = tuple(
            NodeView(
                name=name, satellite=s.satellites[i], alive=node.alive, in_service=node.in_service,
                temperature_c=float(self.twin.temperature_c[i]), charge=float(charge[i]),
                sunlit=s.schedule.illumination(s.satellites[i], self.scenario_s), power_w=node.power_w,
                idle_power_w=s.idle_power_w[i], energy_per_call_j=s.energy_per_call_j[i] * s.work_factor,
                heating_per_call_k=float(heating_k(s.twin.platform.thermal, s.energy_per_call_j[i] * s.work_factor)),
                calls_per_s=node.calls_per_s, harvest_w=float(self.twin.harvest_w[i]),
            )
            for i, (name, node) in enumerate(zip(s.nodes, self.nodes, strict=True))
        )  # fmt: skip
        return View(
            scenario_s=self.scenario_s, step_s=step_s, nodes=nodes, delay_s=self._delays(), holders=s.holders,
            gateways=s.gateways, model=s.model, limits=s.limits, experts_per_row=self.experts_per_row,
            substitute=s.importance.substitute if s.importance else (),
            substitute_error=s.importance.substitute_error if s.importance else (),
            outlook=self._outlook() if ahead else None,
        )  # fmt: skip

    def _outlook(self) -> Outlook:
        """One orbit ahead. Beyond its end the schedule is taken to go on as one orbit before."""
        s, orbit = self.setting, orbit_s(self.setting.twin.platform)

        def light(after_s: float) -> NDArray[np.float64]:
            at = self.scenario_s + after_s
            beyond = at - s.predicted.duration_s
            at = max(at - orbit * np.ceil(beyond / orbit), 0.0) if beyond > 0.0 else at
            return np.array([s.predicted.illumination(name, at) for name in s.satellites])

        drawn = np.array([node.power_w if node.alive else 0.0 for node in self.nodes])
        power = work_power_w(s.accounting, drawn, np.array(s.idle_power_w), s.rate)
        return look_ahead(s.twin, self.twin, power, s.rate, light)

    def _delays(self) -> NDArray[np.float64]:
        s = self.setting
        delay = np.zeros((len(s.nodes), len(s.nodes)))
        for i, a in enumerate(s.satellites):
            for j, b in enumerate(s.satellites):
                if i != j:
                    link = s.predicted.link(a, b, self.scenario_s)
                    delay[i, j] = link.delay_s if link.up else np.inf
        return delay
