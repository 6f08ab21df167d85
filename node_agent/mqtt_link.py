"""The node's MQTT 5 connection: status with a last will, orders in, evidence out of the spool."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from hil_config.epoch_file import EpochFile
from hil_config.errors import HilError, LinkError
from hil_config.signing import OrderGate
from hil_config.tls import BROKER, check_accepted, client_context, explain
from hil_config.wire import topics
from hil_config.wire.messages import CommandReply, Status, decode, encode
from hil_config.wire.topics import Topic
from node_agent.config import AgentConfig
from node_agent.crew import end_process
from node_agent.log import LOG

LONGEST_REASON = 300
"""Characters: whoever sent it may have chosen what is quoted in it."""

ORDERS = (topics.COMMAND, topics.PLAN, topics.CLOCK, topics.WATERMARK)


def _no_delay(client: mqtt.Client, userdata: object, sock: Any) -> None:
    # Without it a QoS 1 round trip waits 40 ms for a delayed acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _gate(config: AgentConfig, boot_id: str, fence: EpochFile) -> OrderGate | None:
    return OrderGate(Path(config.command_key), config.node, boot_id, fence) if config.command_key else None


class MqttLink:
    """Args: `order` takes (row of the topic table, decoded message), called in the network thread: be quick.
    `status` builds the retained status to publish on every connection. `fence` is raised by signed orders here."""

    def __init__(
        self,
        config: AgentConfig,
        boot_id: str,
        status: Callable[[], Status],
        order: Callable[[Topic, msgspec.Struct], None],
        fence: EpochFile,
    ) -> None:
        self._config = config
        self._status = status
        self._order = order
        self.connected = threading.Event()
        self._gate = _gate(config, boot_id, fence)
        self.bad_messages = 0
        self._shown = 0
        self._quiet_until_s = 0.0
        self.refusal = ""
        """Why the broker would not have us when we last asked, or ""."""
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"{config.node}-{boot_id}", protocol=mqtt.MQTTv5
        )
        self._client.max_inflight_messages_set(256)
        self._client.reconnect_delay_set(1, 2)
        self.tls = None if config.tls is None else client_context(config.tls, BROKER)
        if self.tls is not None:
            self._client.tls_set_context(self.tls)
        self._client.on_socket_open = _no_delay
        self._told, self._stopping = "", False
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = lambda client, userdata: self._tell("is not there")
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        will = Status(node=config.node, boot_id=boot_id, state="offline")
        self._client.will_set(self._topic(topics.STATUS), encode(will), qos=1, retain=True)

    def _topic(self, row: Topic) -> str:
        return topics.address(self._config.bench, self._config.node, row)

    def start(self) -> None:
        """Connect in the background and keep reconnecting. LinkError if the broker is not there at first."""
        host, port = self._config.broker_host, self._config.broker_port
        hint = "start the broker, or mend broker_host and broker_port"
        try:
            if self.tls is not None:
                check_accepted((host, port), self.tls)
            self._client.connect(host, port, keepalive=self._config.keepalive_s)
        except LinkError as error:
            raise LinkError(f"broker {host}:{port}: {error.message}", hint) from error
        except OSError as error:
            raise LinkError(f"broker {host}:{port}: {explain(error)}", hint) from error
        self._client.loop_start()

    def _on_connect(self, client: mqtt.Client, u: object, flags: Any, reason: ReasonCode, p: object) -> None:
        if reason.is_failure:
            self.refusal = str(reason)  # paho tries again
            self._tell(f"refuses this node: {reason}", "are node and bench those of its certificate?")
            return
        self.refusal = self._told = ""
        LOG.info("connected to the broker at %s", self._where)
        for row in ORDERS:
            client.subscribe(self._topic(row), qos=row.qos)
        self.connected.set()
        self.publish(topics.STATUS, self._status())

    def _on_disconnect(self, client: mqtt.Client, u: object, flags: Any, reason: ReasonCode, p: object) -> None:
        if self.connected.is_set():
            self.connected.clear()
            self._tell(f"is lost: {reason}")
        elif not self.refusal:
            self._tell(f"gives no answer: {reason}", "is it an MQTT broker, with TLS on both sides or on none?")

    def _on_publish(self, client: mqtt.Client, u: object, mid: int, reason: ReasonCode, p: object) -> None:
        if reason.is_failure:  # it lets anybody subscribe, and says so only of what it is told
            self._tell(f"takes nothing of this node: {reason}", "are node and bench those of its certificate?")

    @property
    def _where(self) -> str:
        return f"{self._config.broker_host}:{self._config.broker_port}"

    def _tell(self, what: str, hint: str = "") -> None:
        """Once for each new state: paho tries again every second or two."""
        if what != self._told and not self._stopping:
            self._told = what
            LOG.warning("broker %s %s%s", self._where, what, f" ({hint})" if hint else "")

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        try:
            _, _, row = topics.parse(message.topic)
            data = bytes(message.payload)
            order: msgspec.Struct
            if self._gate is None:
                order = decode(data, row.payload)
            else:
                order = self._gate.admit(row, data, time.monotonic_ns())
            self._order(row, order)
        except HilError as error:
            self._refuse(error.message)
        except Exception as error:  # paho's thread would end, and the node be deaf from then on
            end_process("mqtt", error)

    def _refuse(self, why: str) -> None:
        """Whoever waits for an answer to an order finds out here why none comes. A line a second at most."""
        self.bad_messages += 1
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            before = self.bad_messages - self._shown - 1
            more = f" (and {before} messages before it)" if before else ""
            LOG.warning("not taken: %s%s", why[:LONGEST_REASON], more)
            self._shown, self._quiet_until_s = self.bad_messages, now_s + 1.0

    def publish(self, row: Topic, message: msgspec.Struct) -> None:
        self.publish_raw(row, encode(message))

    def publish_raw(self, row: Topic, payload: bytes) -> None:
        self._client.publish(self._topic(row), payload, qos=row.qos, retain=row.retained)

    def stop(self) -> None:
        """Say goodbye in order: the retained status becomes `offline` without waiting for the will."""
        self._stopping = True
        if self.connected.is_set():
            status = msgspec.structs.replace(self._status(), state="offline")
            info = self._client.publish(self._topic(topics.STATUS), encode(status), qos=1, retain=True)
            info.wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()


def try_broker(config: AgentConfig, wait_s: float = 5.0) -> None:
    """Connect as this node, subscribe, say something, and go. What it says is an answer that nobody has asked for: a
    broker lets anybody subscribe, and refuses only what it is told. An agent that runs is not disturbed.

    Raises:
        LinkError: the broker is not there, or does not take this node.
    """
    where, heard = f"broker {config.broker_host}:{config.broker_port}", threading.Event()
    idle = CommandReply("self-test", config.node, "self-test", ok=True, mono_ns=time.monotonic_ns())
    outcome = "gives no answer: is it an MQTT broker, with TLS on both sides or on none?"

    def on_connect(client: mqtt.Client, u: object, flags: Any, reason: ReasonCode, p: object) -> None:
        nonlocal outcome
        if reason.is_failure:
            outcome = f"refuses this node: {reason}"
            heard.set()
        else:
            client.subscribe(topics.address(config.bench, config.node, topics.COMMAND), qos=1)

    def on_subscribe(client: mqtt.Client, u: object, mid: int, reasons: list[ReasonCode], p: object) -> None:
        client.publish(topics.address(config.bench, config.node, topics.REPLY), encode(idle), qos=1)

    def on_publish(client: mqtt.Client, u: object, mid: int, reason: ReasonCode, p: object) -> None:
        nonlocal outcome
        outcome = f"takes nothing of this node: {reason}" if reason.is_failure else ""
        heard.set()

    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{config.node}-self-test", protocol=mqtt.MQTTv5)
    client.on_connect, client.on_subscribe, client.on_publish = on_connect, on_subscribe, on_publish
    try:
        if config.tls is not None:
            context = client_context(config.tls, BROKER)
            check_accepted((config.broker_host, config.broker_port), context)
            client.tls_set_context(context)
        client.connect(config.broker_host, config.broker_port, keepalive=5)
        client.loop_start()
        heard.wait(wait_s)
    except (OSError, LinkError) as error:
        raise LinkError(f"{where}: {explain(error) if isinstance(error, OSError) else error.message}") from error
    finally:
        client.disconnect()
        client.loop_stop()
    if outcome:
        raise LinkError(f"{where} {outcome}", "mend broker_host, broker_port or tls; or node and bench, as enrolled")
