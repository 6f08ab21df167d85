"""The deciding core: recorded entries in, decisions out. No I/O and no clock, so that replay is the same code."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ground_controller.further import FurtherCore
from ground_controller.journal import Entry
from ground_controller.migration import MoveNumbers
from ground_controller.policies.view import SelectionPolicy, View
from ground_controller.world import Setting, World
from hil_config.wire.orders import DropShards, LoadShards, SetDuty
from hil_config.wire.plan import SelectionPlan


class NodeNumbers(msgspec.Struct, frozen=True):
    """One node's state at a tick, as the policy saw it. Temperature, charge, harvest, wear: the twin's; `transmit_j`
    so far, in host time: modelled."""

    node: str
    alive: bool
    in_service: bool
    power_w: float
    temperature_c: float
    charge: float
    voltage_v: float
    sunlit: float
    harvest_w: float
    calls_per_s: float
    solar_j: float
    load_j: float
    unused_j: float
    deficit_j: float
    wear: float
    over_limit_s: float
    transmit_j: float = 0.0


class Decision(msgspec.Struct, frozen=True):
    """What was decided at a tick, and the numbers it was decided from. `further`: states of the further policies;
    `orders` of shards to give to nodes now; `moves`: every move of an expert so far."""

    tick: int
    scenario_s: float
    nodes: tuple[NodeNumbers, ...]
    duties: tuple[SetDuty | None, ...]
    policy_state: Any
    plan: SelectionPlan
    further: dict[str, Any] = {}
    orders: tuple[tuple[str, LoadShards | DropShards], ...] = ()
    moves: tuple[MoveNumbers, ...] = ()


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
            tick, scenario_s, self._numbers(), tuple(duties), self._state, plan, more.states, more.orders, more.moves
        )

    def _numbers(self) -> tuple[NodeNumbers, ...]:
        twin, world = self.world.twin, self.world
        return tuple(
            NodeNumbers(
                node=n.name, alive=n.alive, in_service=n.in_service, power_w=n.power_w,
                temperature_c=n.temperature_c, charge=n.charge, sunlit=n.sunlit, harvest_w=n.harvest_w,
                voltage_v=float(twin.voltage_v[i]),
                calls_per_s=n.calls_per_s, solar_j=float(twin.solar_j[i]), load_j=float(twin.load_j[i]),
                unused_j=float(twin.unused_j[i]), deficit_j=float(twin.deficit_j[i]), wear=float(twin.wear[i]),
                over_limit_s=float(world.over_limit_s[i]), transmit_j=float(world.transmit.joules[i]),
            )
            for i, n in enumerate(self.view.nodes)
        )  # fmt: skip


def encode_decision(decision: Decision) -> bytes:
    """Canonical JSON: equal decisions give equal bytes."""
    return msgspec.json.encode(decision)
