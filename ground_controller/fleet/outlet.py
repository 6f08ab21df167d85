"""Decisions to the fleet over MQTT."""

from __future__ import annotations

from ground_controller.fleet.mqtt import MqttFleet
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.link_fault import LinkFault
from hil_config.wire.orders import DropShards, InjectFault, LoadShards, SetDuty, SetPower
from hil_config.wire.plan import SelectionPlan


class Outlet:
    """Every decision to the nodes it is for."""

    def __init__(self, fleet: MqttFleet, nodes: tuple[str, ...]) -> None:
        self._fleet = fleet
        self._nodes = nodes

    def plan(self, plan: SelectionPlan) -> None:
        for node in self._nodes:
            self._fleet.publish_plan(node, plan)

    def duty(self, node: str, order: SetDuty) -> None:
        if node in self._nodes:  # to the others it goes with their turn
            self._fleet.tell(node, order)

    def shards(self, node: str, order: LoadShards | DropShards) -> None:
        self._fleet.tell(node, order)

    def power(self, node: str, order: SetPower) -> None:
        if node in self._nodes:
            self._fleet.tell(node, order)

    def fault(self, fault: LinkFault) -> None:
        for node in self._nodes:
            self._fleet.tell(node, InjectFault(fault))

    def watermark(self, mark: m.Watermark) -> None:
        if mark.node in self._nodes:  # model nodes keep no spool
            self._fleet.publish(mark.node, topics.WATERMARK, mark)
