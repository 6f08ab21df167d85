"""The live summaries of a bench, listened to at its broker; nothing is sent."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from hil_config.errors import LinkError, RemoteProtocolError
from hil_config.tls import BROKER, TlsFiles, check_accepted, client_context, explain
from hil_config.wire import messages as m
from hil_config.wire import topics


class Heard(NamedTuple):
    """A node's latest summary and when it came (`time.monotonic`, seconds), and its latest status; None before the
    first."""

    summary: m.Summary | None
    at_s: float
    status: m.Status | None


class Summaries:
    """Args: `tls`: certificate of whoever listens, on a bench that has an identity."""

    def __init__(self, bench: str, tls: TlsFiles | None = None) -> None:
        self.bench = bench
        self._lock = threading.Lock()
        self._heard: dict[str, Heard] = {}
        self.connected = False
        self._bad: Counter[str] = Counter()
        self._tls = None if tls is None else client_context(tls, BROKER)
        name = f"metrics-{uuid.uuid4().hex[:12]}"
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(1, 5)
        if self._tls is not None:
            self._client.tls_set_context(self._tls)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    def start(self, host: str, port: int) -> None:
        """Connect; LinkError if the broker is not there. Later it is come back to for as long as it takes."""
        try:
            if self._tls is not None:
                check_accepted((host, port), self._tls)
            self._client.connect(host, port, keepalive=10)
        except (LinkError, OSError) as error:
            told = error.message if isinstance(error, LinkError) else explain(error)
            raise LinkError(f"broker {host}:{port}: {told}", "start it, or name it with --broker HOST:PORT") from error
        self._client.loop_start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def heard(self) -> dict[str, Heard]:
        """By node, in the order of names."""
        with self._lock:
            return dict(sorted(self._heard.items()))

    def unread(self) -> dict[str, int]:
        """Messages that could not be read, by node, in the order of names."""
        with self._lock:
            return dict(sorted(self._bad.items()))

    def _on_connect(self, client: mqtt.Client, u: object, flags: Any, reason: ReasonCode, p: object) -> None:
        if not reason.is_failure:
            self.connected = True
            rows = (topics.STATUS, topics.SUMMARY)
            client.subscribe([(topics.address(self.bench, "+", row), row.qos) for row in rows])

    def _on_disconnect(self, client: mqtt.Client, u: object, flags: Any, reason: ReasonCode, p: object) -> None:
        self.connected = False

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        node = ""
        try:
            _, node, row = topics.parse(message.topic)
            if not message.payload:
                return  # what was retained was taken back
            body: Any = m.decode(bytes(message.payload), row.payload)
            if getattr(body, "node", node) != node:
                raise RemoteProtocolError(f"{message.topic}: speaks for another node")
        except RemoteProtocolError:
            with self._lock:
                self._bad[node] += 1
            return
        with self._lock:
            before = self._heard.get(node, Heard(None, 0.0, None))
            if isinstance(body, m.Summary):
                # A retained one may be of any age: the broker gave it because we came, not because the node spoke.
                at_s = time.monotonic() if not message.retain else before.at_s
                self._heard[node] = before._replace(summary=body, at_s=at_s)
            elif isinstance(body, m.Status):
                self._heard[node] = before._replace(status=body)
