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
from hil_config.wire.messages import Status, decode, encode
from hil_config.wire.topics import Topic
from node_agent.config import AgentConfig
from node_agent.crew import end_process

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
        self.last_bad = ""
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
        self._client.on_connect = self._on_connect
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
            return
        self.refusal = ""
        for row in ORDERS:
            client.subscribe(self._topic(row), qos=row.qos)
        self.connected.set()
        self.publish(topics.STATUS, self._status())

    def _on_disconnect(self, client: mqtt.Client, u: object, flags: Any, reason: ReasonCode, p: object) -> None:
        self.connected.clear()

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
            self.bad_messages += 1
            self.last_bad = error.message
        except Exception as error:  # paho's thread would end, and the node be deaf from then on
            end_process("mqtt", error)

    def publish(self, row: Topic, message: msgspec.Struct) -> None:
        self.publish_raw(row, encode(message))

    def publish_raw(self, row: Topic, payload: bytes) -> None:
        self._client.publish(self._topic(row), payload, qos=row.qos, retain=row.retained)

    def stop(self) -> None:
        """Say goodbye in order: the retained status becomes `offline` without waiting for the will."""
        if self.connected.is_set():
            status = msgspec.structs.replace(self._status(), state="offline")
            info = self._client.publish(self._topic(topics.STATUS), encode(status), qos=1, retain=True)
            info.wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()
