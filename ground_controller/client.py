"""The client: one more data-plane peer. Prompts go in, tokens come out, history is kept.

A request that makes no progress, or is refused, begins again from its token history as a new attempt, over
the gateways that are best then: a generation never hangs on one node.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from ground_controller.attempts import UNREACHABLE, Attempts, Routes
from ground_controller.client_events import AttemptBegan, TokenArrived
from ground_controller.evaluation import TextScored
from hil_config.errors import LinkError, RemoteProtocolError
from hil_config.seal import KeyRing
from hil_config.tls import TlsFiles, accept, client_context, connect, server_context
from hil_config.wire.frames import (
    MAX_ROWS,
    Cancel,
    Frame,
    FrameDecoder,
    Hello,
    Refusal,
    Route,
    Scores,
    Sealed,
    Step,
    Token,
    encode_frame,
)

NAME = "ground"


@dataclass(kw_only=True)
class Request(Attempts):
    """One generation under way; with `score`, a text whose tokens are given and scored."""

    prompt: list[int]
    score: bool = False


class Client:
    """Args:
    run: the run's name, spoken in Hello.
    addresses: node -> (host, port).
    routes: the best gateways now, avoiding some; None when there are none.
    record: takes every event (TokenArrived, AttemptBegan) before anything follows from it.
    tls: with it both directions are mutual TLS and frames are sealed; None runs in the clear.
    offers: what each node said about how to seal for it.
    host, port: this machine's address for the nodes; port 0 is any free one.
    """

    def __init__(
        self,
        run: str,
        addresses: dict[str, tuple[str, int]],
        routes: Routes,
        record: Callable[[msgspec.Struct], None],
        end_of_text: int,
        token_timeout_s: float,
        tls: TlsFiles | None = None,
        offers: dict[str, bytes] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._dial = None if tls is None else client_context(tls)
        self._listen = None if tls is None else server_context(tls)
        boot_id = uuid.uuid4().hex[:12]
        self._run = run
        self._ring = None if tls is None else KeyRing(NAME, boot_id, tls)
        if self._ring is not None:
            for offer in (offers or {}).values():
                self._ring.meet(run, offer, newest=False)
        self.offer = b"" if self._ring is None else self._ring.offer
        self._hello = encode_frame(Hello(NAME, run, boot_id, offer=self.offer))
        self._addresses = addresses
        self._routes = routes
        self._record = record
        self._end_of_text = end_of_text
        self._timeout_s = token_timeout_s
        self._lock = threading.RLock()
        self._requests: dict[int, Request] = {}
        self._ended: list[tuple[Request, str]] = []
        self._out: dict[str, socket.socket] = {}
        self._in: set[socket.socket] = set()
        self._server = socket.create_server((host, port), backlog=64)
        self.address: tuple[str, int] = self._server.getsockname()[:2]
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="client-accept", daemon=True)]
        self._threads[0].start()
        self.stray_frames = 0

    def begin(self, request: int, prompt: list[int], want: int, score: bool = False) -> None:
        """Start a generation of at most `want` tokens, or have the prompt scored."""
        with self._lock:
            now_s = time.monotonic()
            entry = Request(id=request, prompt=prompt, want=want, progress_s=now_s, last_token_s=now_s, score=score)
            self._requests[request] = entry
            self._try(entry, "")

    def go_on(
        self, request: int, prompt: list[int], want: int, tokens: list[int], attempt: int, score: bool = False
    ) -> None:
        """Take up a request that an earlier client began: after `tokens`, with the attempt after `attempt`."""
        with self._lock:
            now_s = time.monotonic()
            entry = Request(
                id=request, prompt=prompt, want=want, progress_s=now_s, last_token_s=now_s, score=score,
                tokens=list(tokens), attempt=attempt,
            )  # fmt: skip
            self._requests[request] = entry
            if not self._complete(entry):
                self._try(entry, "the controller was interrupted")

    def _complete(self, entry: Request) -> bool:
        """End a generation that has all that was wanted."""
        if entry.tokens and entry.tokens[-1] == self._end_of_text:
            self._end(entry, "end of text")
        elif len(entry.tokens) >= entry.want and not entry.score:
            self._end(entry, "length")
        return entry.id not in self._requests

    def take_ended(self) -> list[tuple[Request, str]]:
        """Finished requests with the reason they ended, each once."""
        with self._lock:
            ended, self._ended = self._ended, []
        return ended

    @property
    def running(self) -> int:
        return len(self._requests)

    @property
    def scoring(self) -> int:
        """Of those running, how many are scored."""
        with self._lock:
            return sum(entry.score for entry in self._requests.values())

    def watch(self) -> None:
        """Start again what has waited too long; call it often."""
        now_s = time.monotonic()
        with self._lock:
            for entry in list(self._requests.values()):
                if reason := entry.due(now_s, self._timeout_s):
                    self._try(entry, reason)

    def node_lost(self, node: str) -> None:
        """A node is known to be gone: requests on it begin again at once."""
        with self._lock:
            self._drop(node)
            for entry in list(self._requests.values()):
                if node in entry.route:
                    self._try(entry, f"gateway {node} is gone")

    def node_returned(self, node: str, offer: bytes) -> None:
        """A node was started again; `offer` of its new boot, where frames are sealed."""
        with self._lock:
            self._drop(node)
            if self._ring is not None:
                self._ring.meet(self._run, offer)

    def _try(self, entry: Request, reason: str) -> None:
        """A new attempt from the history. Without a route: try again soon."""
        route = self._routes(entry.avoid(reason))
        now_s = time.monotonic()
        if route is None:
            entry.wait(reason or "no route", now_s)
            return
        left = set(entry.route) - set(route)
        waited_us = entry.begin(route, now_s)
        self._record(AttemptBegan(entry.id, entry.attempt, route, reason, waited_us))
        for node in left & self._out.keys():  # whoever is not connected may be gone, and nobody shall wait for that
            self._send(node, Cancel(entry.id, entry.attempt - 1))
        history = np.array(entry.prompt + entry.tokens, np.int32)
        for start in range(0, len(history), MAX_ROWS):  # only the last step asks for a token
            tokens = history[start : start + MAX_ROWS]
            remaining = entry.want - len(entry.tokens) if start + len(tokens) == len(history) else 0
            step = Step(
                entry.id, entry.attempt, start, remaining, Route(route, NAME), len(tokens), tokens, entry.score
            )  # fmt: skip
            if not self._send(route[0], step):
                entry.wait(f"gateway {route[0]} {UNREACHABLE}", now_s)
                return

    def _send(self, node: str, frame: Frame) -> bool:
        try:
            sock = self._out.get(node)
            if sock is None:
                sock = self._out[node] = self._connect(node)
                sock.sendall(self._hello)
            if self._ring is None:
                sock.sendall(encode_frame(frame))
            else:
                sock.sendall(self._ring.seal(self._run, node, frame, "fp32"))
            return True
        except (OSError, LinkError):
            self._drop(node)
            return False

    def _connect(self, node: str) -> socket.socket:
        if self._dial is not None:
            return connect(self._addresses[node], self._dial, node, 2.0)
        sock = socket.create_connection(self._addresses[node], 2.0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _drop(self, node: str) -> None:
        sock = self._out.pop(node, None)
        if sock is not None:
            sock.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # closed
            thread = threading.Thread(target=self._read, args=(connection,), name="client-read", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _secured(self, connection: socket.socket) -> socket.socket:
        """The connection to read tokens from, known to `close` from now on."""
        if self._listen is not None:
            connection, name = accept(connection, self._listen)
            if name not in self._addresses:
                connection.close()
                raise LinkError(f"a certificate for {name!r}, which is no node of this run")
        with self._lock:
            self._in.add(connection)
            if self._closed.is_set():
                with contextlib.suppress(OSError):  # already gone
                    connection.shutdown(socket.SHUT_RDWR)
        return connection

    def _read(self, connection: socket.socket) -> None:
        decoder = FrameDecoder()
        try:
            connection = self._secured(connection)
            while data := connection.recv(1 << 16):
                decoder.receive(data)
                while (frame := decoder.next_frame()) is not None:
                    self._unseal(frame)
        except (OSError, LinkError, RemoteProtocolError):
            self.stray_frames += 1
        finally:
            connection.close()
            with self._lock:
                self._in.discard(connection)

    def _unseal(self, frame: Frame) -> None:
        """In a run with sealed frames: know again a node that says hello, open what is sealed, take nothing else."""
        try:
            if self._ring is not None and isinstance(frame, Hello):
                self._ring.meet(self._run, frame.offer)
            elif self._ring is None:
                self._take(frame)
            elif isinstance(frame, Sealed):
                self._take(self._ring.open(self._run, frame))
            else:
                self.stray_frames += 1
        except RemoteProtocolError:
            self.stray_frames += 1

    def _take(self, frame: Frame) -> None:
        with self._lock:
            if isinstance(frame, Token):
                self._token(frame)
            elif isinstance(frame, Scores):
                self._scores(frame)
            elif isinstance(frame, Refusal):
                entry = self._requests.get(frame.request)
                if entry is not None and frame.attempt == entry.attempt:
                    entry.wait(frame.reason, time.monotonic())

    def _scores(self, frame: Scores) -> None:
        entry = self._requests.get(frame.request)
        if entry is None or frame.attempt != entry.attempt or frame.rows != len(entry.prompt) - 1:
            self.stray_frames += 1
            return
        since_us = (time.monotonic() - entry.last_token_s) * 1e6
        values = tuple(float(value) for value in frame.logprobs)
        self._record(TextScored(frame.request, frame.attempt, values, frame.degraded, since_us))
        self._end(entry, "scored")

    def _token(self, frame: Token) -> None:
        entry = self._requests.get(frame.request)
        if entry is None or frame.attempt != entry.attempt:
            self.stray_frames += 1
            return
        if frame.position != len(entry.prompt) + len(entry.tokens):
            self.stray_frames += 1
            return
        now_s = time.monotonic()
        degraded = frame.degraded + (("re-prefilled",) if entry.re_prefilled else ())
        first = not entry.tokens
        entry.tokens.append(frame.token)
        self._record(
            TokenArrived(
                frame.request, frame.attempt, frame.position, frame.token, frame.logprob, frame.margin,
                degraded, first, (now_s - entry.last_token_s) * 1e6,
            )
        )  # fmt: skip
        entry.progressed(now_s)
        self._complete(entry)

    def _end(self, entry: Request, reason: str) -> None:
        del self._requests[entry.id]
        self._ended.append((entry, reason))
        for node in set(entry.route):
            self._send(node, Cancel(entry.id, entry.attempt))

    def stop(self, request: int, reason: str) -> None:
        """End a generation now with what it has; one that has ended already is left alone."""
        with self._lock:
            entry = self._requests.get(request)
            if entry is not None:
                self._end(entry, reason)

    def stop_all(self, reason: str) -> None:
        """End every generation now with what it has."""
        with self._lock:
            for entry in list(self._requests.values()):
                self._end(entry, reason)

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):  # not listening any more
            self._server.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread; close alone does not
        self._server.close()
        with self._lock:
            for connection in [*self._in, *self._out.values()]:
                with contextlib.suppress(OSError):  # gone already
                    connection.shutdown(socket.SHUT_RDWR)
            for sock in self._out.values():
                sock.close()
        for thread in self._threads:
            thread.join(2.0)
