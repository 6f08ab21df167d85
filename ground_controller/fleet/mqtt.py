"""The controller's MQTT 5 connection: everything from the nodes goes to the inbox, orders go out."""

from __future__ import annotations

import itertools
import socket
import threading
import time
import uuid
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from ground_controller.admission import NO_MODEL, Shape
from ground_controller.fleet.evidence import arrival
from ground_controller.fleet.order_desk import OrderDesk
from ground_controller.inbox import Arrival, Inbox
from ground_controller.unread import HINT, unread
from hil_config.clock_offset import Exchange, estimate
from hil_config.errors import EXIT_UNEXPECTED, HilError, LinkError, RemoteProtocolError
from hil_config.tls import BROKER, TlsFiles, check_accepted, client_context, explain
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.orders import DropShards, InjectFault, LoadShards, Ping, SetDuty, SetPower, Shutdown
from hil_config.wire.plan import SelectionPlan
from hil_config.wire.topics import Topic

LONGEST_REASON = 300
"""Characters: a board may have chosen what is quoted in it."""

FROM_NODES = (topics.STATUS, topics.POWER, topics.EVENT, topics.TOKEN, topics.REPLY)


class NotOnline(LinkError):
    """Some node has not said that it is there."""


class NodeRefused(HilError):
    """A node answered an order with an error; its exit code is the node's."""

    def __init__(self, reply: m.CommandReply) -> None:
        super().__init__(f"node {reply.node}: {reply.error}", reply.hint)
        self.exit_code = reply.exit_code or EXIT_UNEXPECTED


def _no_delay(client: mqtt.Client, userdata: object, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class MqttFleet:
    """All nodes of one bench, by name. With `tls` the broker must prove that it is this bench's; with `desk` orders
    are signed. Evidence must be of a `run` of that shape."""

    def __init__(
        self,
        bench: str,
        epoch: int,
        inbox: Inbox,
        tls: TlsFiles | None = None,
        desk: OrderDesk | None = None,
        run: Shape = NO_MODEL,
    ) -> None:
        self._desk = desk
        self._bench = bench
        self._epoch = epoch
        self._inbox = inbox
        self._run = run
        self._changed = threading.Condition()
        self._replies: dict[str, m.CommandReply] = {}
        self._ids = itertools.count(1)
        self.statuses: dict[str, m.Status] = {}
        self._unread: dict[str, tuple[float, str]] = {}
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"ground-{uuid.uuid4().hex[:12]}", protocol=mqtt.MQTTv5
        )
        self._client.max_inflight_messages_set(1024)
        self._client.reconnect_delay_set(1, 2)
        self._tls = None if tls is None else client_context(tls, BROKER)
        if self._tls is not None:
            self._client.tls_set_context(self._tls)
        self._client.on_socket_open = _no_delay
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message

    def start(self, host: str, port: int) -> None:
        """Connect; LinkError if the broker is not there."""
        hint = "start it, or mend `broker` in bench.yaml"
        try:
            if self._tls is not None:
                check_accepted((host, port), self._tls)
            self._client.connect(host, port, keepalive=5)
        except LinkError as error:
            raise LinkError(f"broker {host}:{port}: {error.message}", hint) from error
        except OSError as error:
            raise LinkError(f"broker {host}:{port}: {explain(error)}", hint) from error
        self._client.loop_start()

    def command(self, epoch: int, desk: OrderDesk | None = None) -> None:
        """Give orders under another epoch from now on."""
        self._epoch, self._desk = epoch, desk

    def _on_connect(self, client: mqtt.Client, u: object, flags: Any, reason: ReasonCode, p: object) -> None:
        if not reason.is_failure:
            client.subscribe([(topics.address(self._bench, "+", row), row.qos) for row in FROM_NODES])

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        data, node = bytes(message.payload), ""
        try:
            _, node, row = topics.parse(message.topic)
            if row.retained and not data:
                return  # what was retained was taken back
            body: Any = arrival(data, self._run) if row.payload is m.Record else m.decode(data, row.payload)
            if getattr(body, "node", node) != node:
                raise RemoteProtocolError(f"speaks for node {body.node!r}")
            self._take(node, body, data)
        except RemoteProtocolError as error:
            reason = f"{message.topic}: {error.message}"[:LONGEST_REASON]
            self._inbox.put(unread(node, reason))
            with self._changed:
                self._unread[node] = (time.monotonic(), reason)

    def _take(self, node: str, body: object, data: bytes) -> None:
        if isinstance(body, Arrival):
            self._inbox.put(body)
        elif isinstance(body, m.Status):
            self._inbox.put(Arrival(time.monotonic_ns(), "status", node, body.boot_id, 0, data))
            with self._changed:
                self.statuses[node] = body
                self._changed.notify_all()
        elif isinstance(body, m.CommandReply):
            if self._desk is not None:
                self._desk.answered(body)
            with self._changed:
                self._replies[body.id] = body
                self._changed.notify_all()

    def wait_online(self, nodes: tuple[str, ...], timeout_s: float, asked_s: float | None = None) -> None:
        """Until every node has said that it is there; LinkError names those that have not. `asked_s`: how long they
        were waited for in all, if this is not the first time."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while missing := [n for n in nodes if n not in self.statuses or self.statuses[n].state == "offline"]:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() > deadline:
                    said = self._said_instead(missing, 0.0)
                    raise NotOnline(
                        f"no word from node {', '.join(missing)} within {asked_s or timeout_s:.0f} s{said}",
                        HINT if said else "read the agent's log in the run folder; hil bench doctor",
                    )

    def order(self, nodes: tuple[str, ...], bodies: dict[str, Any], timeout_s: float) -> dict[str, m.CommandReply]:
        """Send one command to each node and wait for the answers; LinkError names those that did not answer,
        NodeRefused is the first error."""
        asked_s, replies = time.monotonic(), self.ask(nodes, bodies, timeout_s)
        if missing := [node for node in nodes if node not in replies]:
            said = self._said_instead(missing, asked_s)
            raise LinkError(
                f"node {', '.join(missing)} did not answer within {timeout_s:.0f} s{said}",
                HINT if said else "read its log in the run folder: <node>.log",
            )
        for reply in replies.values():
            if not reply.ok:
                raise NodeRefused(reply)
        return replies

    def _said_instead(self, nodes: list[str], since_s: float) -> str:
        """What came of `nodes` since then and could not be read; "" if nothing did."""
        with self._changed:
            found = [self._unread[node] for node in nodes if node in self._unread]
        told = "; ".join(reason for at_s, reason in found if at_s >= since_s)
        return f"; what came of it cannot be read: {told}" if told else ""

    def ask(self, nodes: tuple[str, ...], bodies: dict[str, Any], timeout_s: float) -> dict[str, m.CommandReply]:
        """Send one command to each node; the answers that came in time."""
        if self._desk is not None:
            self._meet(tuple(node for node in nodes if not isinstance(bodies[node], Ping)), timeout_s)
        commands = {node: self._command(bodies[node]) for node in nodes}
        ids = {node: command.id for node, command in commands.items()}
        for node in nodes:
            self.publish(node, topics.COMMAND, commands[node])
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while any(ids[node] not in self._replies for node in nodes):
                left_s = deadline - time.monotonic()
                if left_s <= 0.0:
                    break
                self._changed.wait(left_s)
            return {node: self._replies.pop(ids[node]) for node in nodes if ids[node] in self._replies}

    def _meet(self, nodes: tuple[str, ...], timeout_s: float) -> None:
        """Learn the clocks of nodes that we do not know yet, so that orders to them can have an end."""
        desk = self._desk
        assert desk is not None
        new = tuple(n for n in nodes if n in self.statuses and not desk.knows(n, self.statuses[n].boot_id))
        if new:
            self.ask(new, {node: Ping() for node in new}, timeout_s)

    def tell(self, node: str, body: SetDuty | SetPower | InjectFault | Shutdown | LoadShards | DropShards) -> None:
        """Send a command without waiting for its answer."""
        self.publish(node, topics.COMMAND, self._command(body))

    def clock_offset_ns(self, node: str, rounds: int = 8) -> tuple[int, int]:
        """(node's monotonic clock minus ours, uncertainty) in ns, from the quickest of `rounds` exchanges."""
        exchanges = []
        for _ in range(rounds):
            sent_ns = time.monotonic_ns()
            reply = self.order((node,), {node: Ping()}, 5.0)[node]
            back_ns = time.monotonic_ns()
            exchanges.append(Exchange(sent_ns, reply.received_mono_ns or reply.mono_ns, reply.mono_ns, back_ns))
        return estimate(exchanges)

    def publish(self, node: str, row: Topic, message: msgspec.Struct) -> None:
        """Send, signed where this bench signs. To a node whose clock is not known yet goes a ping instead: what is
        told without waiting for an answer comes again."""
        data: bytes | None = None
        if self._desk is None:
            data = m.encode(message)
        elif (status := self.statuses.get(node)) is not None:
            data = self._desk.sign(row, node, status.boot_id, message)
            if data is None:
                self.publish(node, topics.COMMAND, self._command(Ping()))
        if data is not None:
            self._client.publish(topics.address(self._bench, node, row), data, row.qos, row.retained)

    def _command(self, body: Any) -> m.Command:
        return m.Command(id=f"{self._epoch}-{next(self._ids)}", epoch=self._epoch, body=body)

    def publish_plan(self, node: str, plan: SelectionPlan) -> None:
        self.publish(node, topics.PLAN, plan)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
