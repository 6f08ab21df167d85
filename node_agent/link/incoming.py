"""The listening side: one reader thread per connection, frames to a handler."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial

from hil_config.errors import EnvironmentFault, LinkError, RemoteProtocolError
from hil_config.tls import accept, explain, serial_number
from hil_config.wire.frames import Frame, FrameDecoder, Hello
from node_agent.crew import Crew

Handler = Callable[[str, Frame, float], None]
_CHUNK = 1 << 18


class Listener:
    """Accepts peers. A connection's first frame must be a Hello that `admit` accepts.

    Args:
        admit: (hello) -> reason of refusal, or "".
        handle: (peer, frame, monotonic seconds at which its bytes were received).
        gone: (peer, reason) when an admitted connection ends; peer is "" for one that was not admitted.
        tls: makes every connection prove by certificate the name that its Hello says; None runs in the clear.
    """

    def __init__(
        self,
        crew: Crew,
        host: str,
        port: int,
        admit: Callable[[Hello], str],
        handle: Handler,
        gone: Callable[[str, str], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._crew = crew
        self._admit = admit
        self._handle = handle
        self._gone = gone
        self._tls = tls
        self._connections: dict[socket.socket, int | None] = {}
        """With the serial number of the certificate that each has shown."""
        self._closed = False
        self._lock = threading.Lock()
        try:
            self._sock = socket.create_server((host, port), backlog=64)
        except OSError as error:
            raise EnvironmentFault(
                f"data port {host}:{port}: {error.strerror}",
                f"see who has it: ss -ltnp 'sport = :{port}'; or set data_port: 0 for any free port",
            ) from error
        self.address: tuple[str, int] = self._sock.getsockname()[:2]

    def work(self) -> None:
        """Accept until closed."""
        while not self._crew.stopping.is_set():
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return  # closed by `close`
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections[connection] = None
            self._crew.start("reader", partial(self._read, connection))

    def _secured(self, connection: socket.socket) -> tuple[socket.socket, str]:
        """The connection to read from and the name its certificate proves ("" in the clear)."""
        if self._tls is None:
            return connection, ""
        host, port = connection.getpeername()[:2]
        with self._lock:
            self._connections.pop(connection, None)
        try:
            secure, name = accept(connection, self._tls)
        except LinkError as error:
            raise RemoteProtocolError(f"{host}:{port}: {error.message}") from error
        with self._lock:
            if not self._closed:
                self._connections[secure] = serial_number(secure)
                return secure, name
        secure.close()  # closed meanwhile; nobody else would end it now
        raise RemoteProtocolError("this node is closing")

    def _read(self, connection: socket.socket) -> None:
        peer, reason = "", "closed"
        proven = ""
        try:
            connection, proven = self._secured(connection)
            decoder = FrameDecoder()
            chunk = memoryview(bytearray(_CHUNK))  # one buffer a connection: recv would allocate one a call
            while count := connection.recv_into(chunk):
                received_s = time.monotonic()
                decoder.receive(chunk[:count])
                while (frame := decoder.next_frame()) is not None:
                    if peer:
                        self._handle(peer, frame, received_s)
                    else:
                        peer = self._greet(frame, proven)
        except OSError as error:
            reason = explain(error)
        except RemoteProtocolError as error:
            reason = error.message
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            connection.close()
        if not self._crew.stopping.is_set():
            self._gone(peer, reason)

    def _greet(self, frame: Frame, proven: str) -> str:
        if not isinstance(frame, Hello):
            raise RemoteProtocolError(f"first frame is {type(frame).__name__}, wanted Hello")
        if self._tls is not None and frame.peer != proven:
            raise RemoteProtocolError(f"says it is {frame.peer!r}, its certificate says {proven!r}")
        if refusal := self._admit(frame):
            raise RemoteProtocolError(f"peer {frame.peer!r}: {refusal}")
        return frame.peer

    def cut(self, revoked: frozenset[int]) -> int:
        """End the connections that showed one of these certificates; how many there were."""
        with self._lock:
            found = [connection for connection, serial in self._connections.items() if serial in revoked]
        for connection in found:
            with contextlib.suppress(OSError):  # already gone
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # its reader closes it
        return len(found)

    def close(self) -> None:
        """Stop accepting and end every connection."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in accept; close alone does not
        except OSError:
            pass  # not listening any more
        self._sock.close()
        with self._lock:
            self._closed = True
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # already gone
