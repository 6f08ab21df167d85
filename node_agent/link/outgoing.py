"""One direction of one link: frames to a peer, held back as the schedule says, over one TCP connection."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from bisect import bisect_right
from collections.abc import Callable

from hil_config.errors import ConfigError, LinkError
from hil_config.shaper import Flight, Shaper
from hil_config.tls import connect, explain, serial_number
from hil_config.wire.link_state import LinkState
from hil_config.wire.messages import ERROR_EDGES_US
from node_agent.link.frame_log import FrameLog
from node_agent.link.timer import hurry_thread

CONNECT_TIMEOUT_S = 2.0
SEND_TIMEOUT_S = 5
RETRY_S = 0.5
AT_ONCE_S = 1e-5
"""A frame that is due within so little time goes out in the thread that sends it: no wake-up on its way."""

UNSHAPED = LinkState(0.0, float("inf"), 0.0, True)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of a peer."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"peer address {address!r}: wanted host:port")
    return host, int(port)


class LinkCount:
    """What went out since the last report; delays in seconds, errors in microseconds.

    `errors_us` keeps the first of an interval, for quantiles; `histogram` counts them all.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.bytes = 0
        self.refused = 0
        self.lost = 0
        self.cut = 0
        self.scheduled_s = 0.0
        self.errors_us: list[float] = []
        self.histogram = [0] * (len(ERROR_EDGES_US) + 1)

    def shaped(self, error_us: float) -> None:
        """A frame was handed over so much after it was due."""
        self.histogram[bisect_right(ERROR_EDGES_US, error_us)] += 1
        if len(self.errors_us) < 20_000:
            self.errors_us.append(error_us)


def _send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError as error:
        raise LinkError(explain(error)) from error


class OutgoingLink:
    """Sends encoded frames to one peer.

    A frame without delay goes out in the caller's thread (no wake-up on the way); a delayed one is handed
    over by this link's own thread at its arrival time. `send` never blocks for longer than the send timeout.

    Args:
        hello: the encoded first frame of every connection.
        state: the link's state now (`UNSHAPED` for a peer outside the orbit).
        lost: called once when the connection breaks or cannot be made, with the reason.
        tls: with it the peer must prove its name; None runs in the clear.
        seed: of what chance does to this direction's frames; jitter_s: uniform, so much either way.
        log: takes the delay of every single frame.
    """

    def __init__(
        self,
        peer: str,
        address: tuple[str, int],
        hello: bytes,
        state: Callable[[], LinkState],
        lost: Callable[[str, str], None],
        tls: ssl.SSLContext | None = None,
        seed: str = "",
        jitter_s: float = 0.0,
        log: FrameLog | None = None,
    ) -> None:
        self.peer = peer
        self._address = address
        self._hello = hello
        self._state = state
        self._lost = lost
        self._tls = tls
        self._shaper: Shaper[bytes] = Shaper(seed, jitter_s)
        self._log = log
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._sock: socket.socket | None = None
        self.serial: int | None = None
        """Of the certificate that the peer showed last."""
        self._sock_lock = threading.Lock()
        self._retry_at_s = 0.0
        self._handing = False
        """Whether the link's thread has a frame that is due and may not be out yet: nothing overtakes it."""
        self._closed = False
        self.trouble = ""
        self._count = LinkCount()

    def send(self, frame: bytes) -> bool:
        """False if the schedule has the link down, its queue is full, or the peer is known to be gone."""
        state = self._state()
        now_s = time.monotonic()
        with self._lock:  # the condition's; taken directly, which is a function less on every frame's way
            shut = self._closed or now_s < self._retry_at_s
            at_once = not shut and not self._handing and self._shaper.passes(state, now_s)
            quiet = at_once or (not self._handing and self._shaper.next_s() is None)
            if shut or not (at_once or self._shaper.admit(frame, len(frame), state, now_s)):
                self._count.refused += 1
                return False
            self._count.frames += 1
            self._count.bytes += len(frame)
            if not quiet:
                return True  # the thread is awake or will be before this one is due
            if not at_once and self._shaper.take_due(now_s + AT_ONCE_S) is None:
                self._condition.notify()
                return True
        return self._transmit(frame)

    def work(self) -> None:
        """The link's thread: hands over each delayed frame when it is due."""
        hurry_thread()
        while True:
            with self._condition:
                flight = self._next_flight()
                if flight is None:
                    return
                self._count.scheduled_s += flight.due_s - flight.sent_s
                now_s = time.monotonic()
                self._count.shaped((now_s - flight.due_s) * 1e6)
            if self._log is not None:
                self._log.write(self.peer, flight.size, flight.sent_s, flight.due_s, now_s)
            self._transmit(flight.item)

    def _next_flight(self) -> Flight[bytes] | None:
        """Wait (with the condition held) for the next frame that is due; None when the link is closed."""
        self._handing = False
        while not self._closed:
            now_s = time.monotonic()
            flight = self._shaper.take_due(now_s)
            if flight is not None:
                self._handing = True
                return flight
            next_s = self._shaper.next_s()
            if next_s is not None and next_s <= now_s:
                self._shaper.advance(self._state(), now_s)
                continue
            self._condition.wait(None if next_s is None else next_s - now_s)
        return None

    def _transmit(self, frame: bytes) -> bool:
        with self._sock_lock:
            if self._closed:
                return False
            try:
                if self._sock is None:
                    self._sock = self._connect()
                _send(self._sock, frame)
                return True
            except LinkError as error:
                self._drop()
                reason = error.message
        with self._condition:
            self._shaper.clear()
            self._retry_at_s = time.monotonic() + RETRY_S
        self._lost(self.peer, reason)
        return False

    def _connect(self) -> socket.socket:
        where = f"{self._address[0]}:{self._address[1]}"
        try:
            if self._tls is None:
                sock = socket.create_connection(self._address, CONNECT_TIMEOUT_S)
            else:
                sock = connect(self._address, self._tls, self.peer, CONNECT_TIMEOUT_S)
        except OSError as error:
            raise LinkError(f"{where}: {error.strerror or error}") from error
        except LinkError as error:
            raise LinkError(f"{where}: {error.message}") from error
        try:
            if self._tls is None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(None)
                # A kernel timeout on a blocking socket: Python's own would poll before every send.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_S, 0))
            else:
                sock.settimeout(SEND_TIMEOUT_S)  # ssl would begin again after a kernel timeout, for ever
            _send(sock, self._hello)
        except LinkError:
            sock.close()
            raise
        self.serial = serial_number(sock)
        return sock

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def probe(self) -> bool:
        """Connect now if there is no connection; True when there is one afterwards."""
        with self._sock_lock:
            if self._sock is not None:
                return True
            if self._closed:
                return False
            try:
                self._sock = self._connect()
            except LinkError as error:
                self.trouble = error.message
                return False
        with self._condition:
            self._retry_at_s = 0.0
        return True

    def open(self) -> None:
        """Connect, or LinkError: used once before a run so that a wrong address is found at once."""
        if not self.probe():
            raise LinkError(
                f"peer {self.peer}: no connection to {self.trouble}",
                "is its agent running? hil bench doctor",
            )

    def peer_gone(self) -> None:
        """Its side closed: forget our connection so that the next send starts afresh."""
        with self._sock_lock:
            self._drop()
        with self._condition:
            self._shaper.clear()
            self._retry_at_s = time.monotonic() + RETRY_S

    def take_count(self) -> LinkCount:
        """Counts since the last call."""
        with self._condition:
            count, self._count = self._count, LinkCount()
            count.lost, count.cut = self._shaper.lost, self._shaper.cut
            self._shaper.lost = self._shaper.cut = 0
        return count

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()
        with self._sock_lock:
            self._drop()
