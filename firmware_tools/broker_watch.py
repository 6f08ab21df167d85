"""What the agents of a bench say about themselves at its broker: who is there, and since which boot."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from hil_config.errors import LinkError, RemoteProtocolError
from hil_config.tls import BROKER, check_accepted, client_context, explain, identity_files
from hil_config.wire import topics
from hil_config.wire.messages import Status, Summary, decode

_HEARD = (topics.STATUS, topics.SUMMARY)
KEPT = 64
LOG = "journalctl -u hil-agent, or /var/log/hil-agent.log"
"""Where a person finds on a board what its agent said: systemd's journal, or a file on boards without."""


class BrokerWatch:
    """Retained and live statuses by node, while it is open. Args: `identity`, folder of a bench; None: in the clear.

    Raises:
        LinkError: on entry, if the broker is not there or refuses us.
    """

    def __init__(self, bench: str, host: str, port: int, identity: Path | None) -> None:
        self._bench, self._host, self._port = bench, host, port
        self._changed = threading.Condition()
        self.statuses: dict[str, Status] = {}
        self._unread: dict[str, str] = {}
        self._summaries: defaultdict[str, deque[Summary]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._tls = None if identity is None else client_context(identity_files(identity / "monitor"), BROKER)
        if self._tls is not None:
            self._client.tls_set_context(self._tls)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message

    def __enter__(self) -> BrokerWatch:
        place, hint = f"broker {self._host}:{self._port}", "start it: hil bench init prints how"
        try:
            if self._tls is not None:
                check_accepted((self._host, self._port), self._tls)
            self._client.connect(self._host, self._port, keepalive=10)
        except LinkError as error:
            raise LinkError(f"{place}: {error.message}", hint) from error
        except OSError as error:
            raise LinkError(f"{place}: {explain(error)}", hint) from error
        self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: mqtt.Client, u: object, flags: Any, reason: ReasonCode, p: object) -> None:
        if not reason.is_failure:
            client.subscribe([(topics.address(self._bench, "+", row), row.qos) for row in _HEARD])

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        node = ""
        try:
            _, node, row = topics.parse(message.topic)
            said: Any = decode(bytes(message.payload), row.payload)
        except RemoteProtocolError as error:
            with self._changed:
                if message.payload:  # without one, what was retained was taken back
                    self._unread[node] = error.message
            return
        with self._changed:
            self._unread.pop(node, None)
            if isinstance(said, Status):
                self.statuses[said.node] = said
            elif not message.retain:  # one that is may be from long ago
                self._summaries[said.node].append(said)
            self._changed.notify_all()

    def known(self, node: str, timeout_s: float = 3.0) -> Status | None:
        """What is retained about a node, or None if nothing has come within `timeout_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: node in self.statuses, timeout_s)
            return self.statuses.get(node)

    def summaries(self, node: str, count: int, timeout_s: float) -> tuple[Summary, ...]:
        """The next `count` that an agent says, one a second; fewer if it has not said them within `timeout_s`."""
        with self._changed:
            heard = self._summaries[node] = deque(maxlen=max(KEPT, count))
            self._changed.wait_for(lambda: len(heard) >= count, timeout_s)
            return tuple(heard)[:count]

    def wait(self, node: str, wanted: Callable[[Status | None], bool], timeout_s: float) -> Status | None:
        """The node's status once `wanted` accepts it; LinkError after `timeout_s` seconds, with what there was."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not wanted(self.statuses.get(node)):
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    last = self.statuses.get(node)
                    said = f"last heard: {last.state}, boot {last.boot_id}" if last else "never heard of"
                    said += f"; what it says now cannot be read: {unread}" if (unread := self._unread.get(node)) else ""
                    raise LinkError(
                        f"node {node}: not as wanted at the broker within {timeout_s:.0f} s ({said})",
                        f"hil console {node}; on the board: {LOG}",
                    )
                self._changed.wait(left_s)
            return self.statuses.get(node)

    def wait_online(self, node: str, timeout_s: float, not_boot: str = "") -> Status:
        """Its status once it is there in another boot than `not_boot`."""
        found = self.wait(node, lambda s: s is not None and s.state != "offline" and s.boot_id != not_boot, timeout_s)
        assert found is not None
        return found

    def stays(self, node: str, boot_id: str, for_s: float) -> bool:
        """Whether a node is there in this boot for `for_s` seconds more; a restart in between counts as gone."""
        with self._changed:
            return not self._changed.wait_for(
                lambda: self.statuses[node].boot_id != boot_id or self.statuses[node].state == "offline", for_s
            )

    def wait_offline(self, node: str, timeout_s: float) -> None:
        """Until its last will has arrived."""
        self.wait(node, lambda s: s is None or s.state == "offline", timeout_s)
