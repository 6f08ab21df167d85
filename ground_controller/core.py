"""The deciding core: recorded entries in, decisions out. No I/O and no clock, so that replay is the same code."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ground_controller.decision import Decision, NodeBlocks
from ground_controller.further import FurtherCore
from ground_controller.interruption import KIND as RESUMED
from ground_controller.interruption import RunResumed
from ground_controller.journal import Entry
from ground_controller.policies.view import SelectionPolicy, View
from ground_controller.world import Setting, World
from hil_config.wire.plan import SelectionPlan


@dataclass
class Core:
    """World, policy and its state. `advance` is the only way forward."""

    setting: Setting
    policy: SelectionPolicy[Any]
    epoch: int
    plan_ttl_s: float
    world: World = field(init=False)
    view: View = field(init=False)

    def __post_init__(self) -> None:
        self.world = World(self.setting)
        self._state = self.policy.start(len(self.setting.nodes))
        self._gateways = self.setting.gateways
        s = self.setting
        self._further = FurtherCore(
            s.further, s.nodes, s.satellites, s.predicted, s.holders, self.world.transmit,
            s.twin.platform.transmit_j_per_bit, s.work_factor, s.rate,
        )  # fmt: skip
        self._ahead = bool(getattr(self.policy, "looks_ahead", False)) or self._further.looks_ahead
        self.view = self.world.view(0.0)

    def advance(self, tick: int, scenario_s: float, entries: list[Entry]) -> Decision:
        """Apply what was recorded for this tick, step the twin, decide."""
        for entry in entries:
            if entry.kind == RESUMED:
                self.epoch = msgspec.json.decode(entry.body, type=RunResumed).epoch
            self.world.apply(entry)
            self._further.apply(entry)
        step_s = scenario_s - self.world.scenario_s
        duties = self.world.step(scenario_s)
        view = self._further.look(replace(self.world.view(step_s, self._ahead), gateways=self._gateways))
        self._state, selection = self.policy.select(self._state, view)
        self._gateways = selection.gateways or self._gateways
        self.view = replace(view, gateways=self._gateways)
        more = self._further.decide(self.view, selection.layers)
        reason = f"{selection.reason}; {more.reason}" if more.reason else selection.reason
        plan = SelectionPlan(
            version=tick + 1, epoch=self.epoch, issued_s=scenario_s, ttl_s=self.plan_ttl_s,
            policy=self.policy.name, reason=reason, scale=selection.scale,
            coverage=selection.coverage, k_min=selection.k_min, k_max=selection.k_max,
            threshold=selection.threshold, nodes=self.setting.nodes, gateways=self._gateways,
            layers=more.layers, transmission=more.transmission, routes=more.routes, loads=more.loads,
        )  # fmt: skip
        return Decision(
            tick, scenario_s, self._numbers(), tuple(duties), self._state, plan, more.states,
            (*self.world.powers, *more.orders), more.moves,
        )  # fmt: skip

    @property
    def held(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """Who holds which expert now, [layer][expert] -> node indices: those that plans may name, and those that were
        not told yet to drop one."""
        return self._further.held(self.setting.holders)

    def _numbers(self) -> NodeBlocks:
        twin, nodes = self.world.twin, self.view.columns
        return NodeBlocks.of(
            alive=nodes.alive, in_service=nodes.in_service, power_w=nodes.power_w,
            temperature_c=nodes.temperature_c, charge=nodes.charge, voltage_v=twin.voltage_v, sunlit=nodes.sunlit,
            harvest_w=nodes.harvest_w, calls_per_s=nodes.calls_per_s, solar_j=twin.solar_j, load_j=twin.load_j,
            unused_j=twin.unused_j, deficit_j=twin.deficit_j, wear=twin.wear, over_limit_s=self.world.over_limit_s,
            transmit_j=self.world.transmit.joules,
        )  # fmt: skip
