"""Signs what the ground says to nodes, in time on each node's own clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from hil_config.signing import Signer
from hil_config.wire import messages as m
from hil_config.wire.orders import Ping
from hil_config.wire.topics import Topic

LIFE_S = 30.0
"""An order that reaches its node later than this after it was given is void."""


class _Offset(NamedTuple):
    boot_id: str
    ns: int


class OrderDesk:
    """Knows how far each node's monotonic clock is from ours, from its answers to pings.

    Args:
        now_ns: our monotonic clock.
    """

    def __init__(self, signer: Signer, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._signer = signer
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._offsets: dict[str, _Offset] = {}
        self._pinged: dict[str, int] = {}

    def knows(self, node: str, boot_id: str) -> bool:
        """Whether an order to this boot of the node can be given an end."""
        offset = self._offsets.get(node)
        return offset is not None and offset.boot_id == boot_id

    def sign(self, row: Topic, node: str, boot_id: str, message: msgspec.Struct) -> bytes | None:
        """The signed order, or None while the node's clock is not known (only a Ping goes without)."""
        if isinstance(message, m.Command) and isinstance(message.body, Ping):
            with self._lock:
                self._pinged[message.id] = self._now_ns()
            return self._signer.sign(row, node, boot_id, message, 0)
        if not self.knows(node, boot_id):
            return None
        expires_ns = self._now_ns() + self._offsets[node].ns + int(LIFE_S * 1e9)
        return self._signer.sign(row, node, boot_id, message, expires_ns)

    def answered(self, reply: m.CommandReply) -> None:
        """A node answered: if it was a ping, its clock is known now, to half the round trip."""
        now_ns = self._now_ns()
        with self._lock:
            sent_ns = self._pinged.pop(reply.id, None)
            if sent_ns is not None:
                self._offsets[reply.node] = _Offset(reply.boot_id, reply.mono_ns - (sent_ns + now_ns) // 2)
