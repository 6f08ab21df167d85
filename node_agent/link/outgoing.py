"""One direction of one link: frames to a peer, held back as the schedule says, over one TCP connection."""

from __future__ import annotations

import heapq
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable

from hil_config.errors import LinkError
from hil_config.tls import connect, explain
from hil_config.wire.schedule_file import LinkState
from node_agent.link.shaper import Shaper

CONNECT_TIMEOUT_S = 2.0
SEND_TIMEOUT_S = 5
RETRY_S = 0.5
UNSHAPED = LinkState(0.0, float("inf"), 0.0, True)


class LinkCount:
    """What went out since the last report; delays in seconds, errors in microseconds."""

    def __init__(self) -> None:
        self.frames = 0
        self.bytes = 0
        self.refused = 0
        self.scheduled_s = 0.0
        self.errors_us: list[float] = []


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
    """

    def __init__(
        self,
        peer: str,
        address: tuple[str, int],
        hello: bytes,
        state: Callable[[], LinkState],
        lost: Callable[[str, str], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.peer = peer
        self._address = address
        self._hello = hello
        self._state = state
        self._lost = lost
        self._tls = tls
        self._shaper = Shaper()
        self._condition = threading.Condition()
        self._queue: list[tuple[float, int, float, bytes]] = []
        self._order = 0
        self._sock: socket.socket | None = None
        self._sock_lock = threading.Lock()
        self._retry_at_s = 0.0
        self._closed = False
        self.trouble = ""
        self._count = LinkCount()

    def send(self, frame: bytes) -> bool:
        """False if the schedule has the link down, its queue is full, or the peer is known to be gone."""
        state = self._state()
        now_s = time.monotonic()
        with self._condition:
            slot = None if self._closed or now_s < self._retry_at_s else self._shaper.admit(len(frame), state, now_s)
            if slot is None:
                self._count.refused += 1
                return False
            self._count.frames += 1
            self._count.bytes += len(frame)
            self._count.scheduled_s += slot.delay_s
            if slot.delay_s > 1e-5 or self._queue:
                heapq.heappush(self._queue, (slot.arrive_s, self._order, now_s, frame))
                self._order += 1
                self._condition.notify()
                return True
        return self._transmit(frame)

    def work(self) -> None:
        """The link's thread: hands over each delayed frame when it is due."""
        while True:
            with self._condition:
                while not self._closed:
                    wait_s = self._queue[0][0] - time.monotonic() if self._queue else None
                    if wait_s is not None and wait_s <= 0.0:
                        break
                    self._condition.wait(wait_s)
                if self._closed:
                    return
                due_s, _, _, frame = heapq.heappop(self._queue)
                if len(self._count.errors_us) < 20_000:
                    self._count.errors_us.append((time.monotonic() - due_s) * 1e6)
            self._transmit(frame)

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
            self._queue.clear()
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
            self._queue.clear()
            self._retry_at_s = time.monotonic() + RETRY_S

    def take_count(self) -> LinkCount:
        """Counts since the last call."""
        with self._condition:
            count, self._count = self._count, LinkCount()
        return count

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()
        with self._sock_lock:
            self._drop()
