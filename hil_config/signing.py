"""Orders signed by the controller, so that a broker can lose them but not make them.

Everything the ground says to a node travels as a `SignedOrder` where the node knows the controller's key (Ed25519).
The signature covers the topic, the node, its boot, the controller's epoch, a counter, when the order ends (on the
node's own monotonic clock, since a board may not know the date) and the payload's hash. The node takes an order once,
in time, for itself, and never from an epoch below the highest it has seen. The highest epoch is on disk before it
counts; counters need not be, because a new boot has a new name and every order to the old one is void.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hil_config.epoch_file import EpochFile
from hil_config.errors import ConfigError, RemoteProtocolError
from hil_config.replay_window import ReplayWindow
from hil_config.wire import messages as m
from hil_config.wire.orders import Ping
from hil_config.wire.topics import Topic

_LABEL = b"hil order 1"


class SignedOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`payload` is the message's own JSON, byte for byte. `expires_ns` 0: never, which only a Ping may say."""

    v: int
    epoch: int
    counter: int
    boot_id: str
    expires_ns: int
    signature: bytes
    payload: msgspec.Raw


def _signed(topic: str, node: str, order: SignedOrder) -> bytes:
    digest = hashlib.sha256(order.payload).digest()
    fields = [topic, node, order.boot_id, order.epoch, order.counter, order.expires_ns, digest]
    return _LABEL + msgspec.msgpack.encode(fields)


class Signer:
    """The controller's side: one epoch, one counter for all nodes. Thread-safe."""

    def __init__(self, key: Path, epoch: int) -> None:
        try:
            found = serialization.load_pem_private_key(key.read_bytes(), None)
        except OSError as error:
            raise ConfigError(f"{key}: cannot be read: {error.strerror}", "make it: hil bench init") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{key}: not a private key in PEM", "make it: hil bench init") from error
        if not isinstance(found, Ed25519PrivateKey):
            raise ConfigError(f"{key}: a key of another kind, wanted Ed25519", "make it: hil bench init")
        self._key = found
        self._epoch = epoch
        self._counter = itertools.count(1)

    def sign(self, row: Topic, node: str, boot_id: str, message: msgspec.Struct, expires_ns: int) -> bytes:
        """The order's JSON. `expires_ns` is on the node's monotonic clock."""
        payload = msgspec.Raw(m.encode(message))
        order = SignedOrder(1, self._epoch, next(self._counter), boot_id, expires_ns, b"", payload)
        signature = self._key.sign(_signed(row.suffix, node, order))
        return msgspec.json.encode(msgspec.structs.replace(order, signature=signature))


class OrderGate:
    """The node's side: what may pass. Args: `state` remembers the highest epoch."""

    def __init__(self, key: Path, node: str, boot_id: str, state: EpochFile) -> None:
        try:
            found = serialization.load_pem_public_key(key.read_bytes())
        except OSError as error:
            raise ConfigError(f"{key}: cannot be read: {error.strerror}", "enrol the board again") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{key}: not a public key in PEM", "enrol the board again") from error
        if not isinstance(found, Ed25519PublicKey):
            raise ConfigError(f"{key}: a key of another kind, wanted Ed25519", "enrol the board again")
        self._key = found
        self._node = node
        self._boot_id = boot_id
        self._state = state
        self._window = ReplayWindow()
        self._lock = threading.Lock()

    @property
    def epoch(self) -> int:
        """The highest epoch that ever gave this board an order."""
        return self._state.epoch

    def admit(self, row: Topic, data: bytes, now_ns: int) -> msgspec.Struct:
        """The message in a signed order, or RemoteProtocolError: forged, replayed, ended, or of a past epoch."""
        order = m.decode(data, SignedOrder)
        if order.boot_id != self._boot_id:
            raise RemoteProtocolError(f"order for boot {order.boot_id!r}, this is {self._boot_id!r}")
        if len(order.signature) != 64:
            raise RemoteProtocolError("order without a signature")
        try:
            self._key.verify(order.signature, _signed(row.suffix, self._node, order))
        except InvalidSignature as error:
            raise RemoteProtocolError("order not signed by this bench's controller") from error
        message: msgspec.Struct = m.decode(bytes(order.payload), row.payload)
        ping = isinstance(message, m.Command) and isinstance(message.body, Ping)
        if order.expires_ns < now_ns and not (ping and order.expires_ns == 0):
            raise RemoteProtocolError(f"order ended {(now_ns - order.expires_ns) / 1e9:.3f} s ago")
        with self._lock:
            self._fence(order)
        return message

    def _fence(self, order: SignedOrder) -> None:
        if self._state.admit(order.epoch):
            self._window = ReplayWindow()
        if order.counter < 1 or not self._window.mark(order.counter):
            raise RemoteProtocolError(f"order {order.counter} came before, or is too old to tell")
