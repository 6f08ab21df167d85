"""A board whose agent was started again while its run goes on, as its supervisor does after a crash, takes part again.

Until it is told of the run it holds no expert, and no plan names it (`World`). It is told once for each of its boots:
what it held, who its peers are now, the clock, and what was ordered since. The others find it where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ground_controller.client import Client
from ground_controller.clock_keeper import ClockKeeper
from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.interruption import BoardReturned
from ground_controller.preflight.nodes import refuse_unready, releases
from hil_config.errors import HilError
from hil_config.wire.messages import Status
from hil_config.wire.orders import ExpertHolding, InjectFault, Peer, Prepare, SetDuty, SetPower
from hil_config.wire.plan import SelectionPlan


class Standing(NamedTuple):
    """How a run stands for a board: what it holds, the plan, and the orders that hold beyond that."""

    experts: tuple[ExpertHolding, ...]
    plan: SelectionPlan
    orders: tuple[SetDuty | SetPower | InjectFault, ...]


class Returning:
    """One run's boards.

    Args:
        orders: what each board was told when the run began or went on, and has answered.
        wait_s: longest wait for the answer to such an order.
        record: takes (node, what came of it) for the journal.
    """

    def __init__(
        self,
        fleet: MqttFleet,
        client: Client,
        orders: dict[str, Prepare],
        wait_s: float,
        keeper: ClockKeeper,
        record: Callable[[str, BoardReturned], None],
    ) -> None:
        self._fleet = fleet
        self._client = client
        self._keeper = keeper
        self._orders = orders
        self._wait_s = wait_s
        self._record = record
        self._boots = {node: fleet.statuses[node].boot_id for node in orders}
        self._places = {node: fleet.statuses[node].data_address for node in orders}
        self._threads: list[threading.Thread] = []

    def look(self, standing: Callable[[str], Standing]) -> None:
        """After each decision, from the thread that decides; nobody waits for a board that loads its shards."""
        for node, boot_id in self._boots.items():
            status = self._fleet.statuses[node]
            if status.state != "online" or status.boot_id == boot_id:
                continue
            self._boots[node] = status.boot_id
            thread = threading.Thread(
                target=self._take_in, args=(node, status, standing(node)), name=f"return-{node}", daemon=True
            )  # fmt: skip
            self._threads.append(thread)
            thread.start()

    def _take_in(self, node: str, status: Status, standing: Standing) -> None:
        problem = ""
        if status.data_address != self._places[node]:
            problem = f"its data plane was at {self._places[node]}, now {status.data_address}: give it a `data_port`"
        else:
            try:
                self._tell(node, status, standing)
            except HilError as error:
                problem = error.message
        self._record(node, BoardReturned(status.boot_id, problem))

    def _tell(self, node: str, status: Status, standing: Standing) -> None:
        refuse_unready((releases({node: status}, (node,)),))
        offset = self._fleet.clock_offset_ns(node)  # before it takes part: from then on nothing is waited for
        self._client.node_returned(node, status.offer)
        order = msgspec.structs.replace(
            self._orders[node], peers=tuple(map(self._now, self._orders[node].peers)), experts=standing.experts,
            plan=standing.plan,
        )  # fmt: skip
        self._fleet.order((node,), {node: order}, self._wait_s)
        self._keeper.meet(node, offset)
        for one in standing.orders:
            self._fleet.tell(node, one)

    def _now(self, peer: Peer) -> Peer:
        """With the offer of its last boot, in a run with sealed frames: it may have been started again as well."""
        status = self._fleet.statuses.get(peer.name)
        offer = status.offer if status is not None and peer.offer else b""
        return msgspec.structs.replace(peer, offer=offer or peer.offer)

    def close(self) -> None:
        """Wait for what is under way; call it once nobody answers any more, or everybody has."""
        for thread in self._threads:
            thread.join(1.0)
