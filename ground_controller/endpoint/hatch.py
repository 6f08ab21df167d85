"""The run's side: a Unix socket of mode 0600 in the run folder, through which a web server asks for generations.

The run's own client carries them, so that they are numbered, recorded, begun again after failures and replayed like
all others. At most `concurrency` are under way and `queue` wait; what comes on top is refused at once.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from ground_controller.client_events import TokenArrived
from ground_controller.endpoint import messages as m
from ground_controller.feed import Feed, Generation
from ground_controller.preparation import Prepared
from hil_config.errors import EnvironmentFault

DOMAIN = "http"
"""What the record calls prompts that came this way."""
SEND_S = 5.0
"""A server that does not read for so long is cut off: it must not hold up the thread that brings tokens."""


class _Visitor:
    """One connection of a server."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._lock = threading.Lock()
        connection.settimeout(None)
        seconds = int(SEND_S).to_bytes(8, "little") + bytes(8)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)

    def say(self, message: m.FromRun) -> None:
        """One whole line, or the end of the connection."""
        try:
            with self._lock:
                self.connection.sendall(m.line(message))
        except OSError:
            self.end()

    def end(self) -> None:
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # gone already


class _Asked:
    """A generation that somebody waits for."""

    def __init__(self, visitor: _Visitor, ask: m.Ask) -> None:
        self.visitor, self.ask = visitor, ask
        self.got = 0


class Hatch:
    """A source of generations that never runs dry. `start` when the run's client is there, `stop` before it closes.

    One thread owns what is asked and under way and hears everything in its order: tokens come from threads that hold
    the client's lock, and must never wait for one that wants it.
    """

    exhausted = False

    def __init__(self, folder: Path, described: m.Described, concurrency: int, queue: int) -> None:
        self._described = described
        self._feed: Feed | None = None
        self._concurrency, self._queue = concurrency, queue
        self._heard: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._waiting: deque[_Asked] = deque()
        self._under_way: dict[int, _Asked] = {}
        self._visitors: set[_Visitor] = set()
        self._threads: list[threading.Thread] = []
        self._path = folder / m.SOCKET
        self._server = _listen(folder)

    def start(self, feed: Feed) -> None:
        self._feed = feed
        feed.hear_tokens(self.token)
        feed.hear_ends(self.ended)
        self._spawn(self._work)
        self._spawn(self._accept)

    def take(self, scenario_s: float, under_way: int) -> None:
        """Nothing at ticks: generations begin when they are asked. EnvironmentFault if that has become impossible."""
        if self._threads and not self._threads[0].is_alive():
            raise EnvironmentFault("the thread that begins requests has died", "its cause is above this line")

    def token(self, event: TokenArrived) -> None:
        """A token of some request of the run has arrived."""
        self._heard.put(lambda: self._token(event))

    def ended(self, request: int, reason: str) -> None:
        """A request of the run has ended; most are known to have by their last token."""
        self._heard.put(lambda: self._end(request, reason))

    def stop(self) -> None:
        """No more is taken; whoever is connected is told by the end of the connection."""
        self._heard.put(None)
        try:
            self._server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not listening any more
        self._server.close()
        for thread in list(self._threads):
            thread.join(SEND_S)
        self._path.unlink(missing_ok=True)

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="hatch", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (heard := self._heard.get()) is not None:
            heard()
        for visitor in list(self._visitors):
            visitor.end()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # closed
            visitor = _Visitor(connection)
            self._heard.put(partial(self._visitors.add, visitor))
            self._spawn(partial(self._read, visitor))

    def _read(self, visitor: _Visitor) -> None:
        visitor.say(self._described)
        try:
            with visitor.connection.makefile("rb") as lines:
                while data := lines.readline(m.MOST_LINE):
                    said = m.from_server(data)
                    self._heard.put(partial(self._hear, visitor, said))
        except (OSError, ValueError):
            pass  # cut off, or no server of ours: its generations end below
        finally:
            self._heard.put(lambda: self._leave(visitor))
            visitor.connection.close()

    def _hear(self, visitor: _Visitor, said: m.FromServer) -> None:
        if isinstance(said, m.Withdraw):
            self._withdraw(lambda one: one.visitor is visitor and one.ask.id == said.id)
            return
        room = self._described.context - len(said.tokens)
        if not said.tokens or not 1 <= said.want <= room:
            visitor.say(m.Refused(said.id, False, f"{len(said.tokens)} tokens and {said.want} more do not fit"))
        elif len(self._under_way) >= self._concurrency and len(self._waiting) >= self._queue:
            busy = f"{len(self._under_way)} generations are under way and {len(self._waiting)} wait"
            visitor.say(m.Refused(said.id, True, busy))
        else:
            self._waiting.append(_Asked(visitor, said))
            self._begin_waiting()

    def _begin_waiting(self) -> None:
        assert self._feed is not None  # the thread that comes here is started with it
        while self._waiting and len(self._under_way) < self._concurrency:
            asked = self._waiting.popleft()
            number = self._feed.begin(Generation(DOMAIN, asked.ask.prompt, list(asked.ask.tokens), asked.ask.want))
            self._under_way[number] = asked
            asked.visitor.say(m.Begun(asked.ask.id, number))

    def _token(self, event: TokenArrived) -> None:
        asked = self._under_way.get(event.request)
        if asked is None:
            return
        asked.got += 1
        asked.visitor.say(m.TokenSaid(asked.ask.id, event.token, event.degraded))
        if event.token == self._described.end_of_text:
            self._end(event.request, "end of text")
        elif asked.got >= asked.ask.want:
            self._end(event.request, "length")

    def _end(self, request: int, reason: str) -> None:
        asked = self._under_way.pop(request, None)
        if asked is not None:
            asked.visitor.say(m.Ended(asked.ask.id, reason))
            self._begin_waiting()

    def _withdraw(self, whose: Callable[[_Asked], bool]) -> None:
        assert self._feed is not None
        self._waiting = deque(one for one in self._waiting if not whose(one))
        for request in [number for number, one in self._under_way.items() if whose(one)]:
            del self._under_way[request]
            self._feed.withdraw(request, "withdrawn by its client")
        self._begin_waiting()

    def _leave(self, visitor: _Visitor) -> None:
        self._withdraw(lambda one: one.visitor is visitor)
        self._visitors.discard(visitor)


def hatch(prepared: Prepared, folder: Path) -> Hatch:
    """The hatch of a run, listening; EnvironmentFault if it cannot."""
    card, workload = prepared.manifest.model, prepared.campaign.workload
    described = m.Described(
        folder.name, card.name, card.context, card.end_of_text, int(time.time()), str(prepared.tokenizer.to_str())
    )
    return Hatch(folder, described, workload.concurrency, workload.queue)


def _listen(folder: Path) -> socket.socket:
    """A socket in `folder` that nobody else may use, whatever the length of its path."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o177)
    try:
        (folder / m.SOCKET).unlink(missing_ok=True)  # of a controller that died; the run's lock says it is gone
        server.bind(f"/proc/self/fd/{handle}/{m.SOCKET}")
    except OSError as error:
        server.close()
        raise EnvironmentFault(
            f"{folder / m.SOCKET}: {error.strerror}", "the run folder must be on a local file system"
        ) from error
    finally:
        os.umask(before)
        os.close(handle)
    server.listen(8)
    return server
