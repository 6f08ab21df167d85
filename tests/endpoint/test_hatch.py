"""The run's side of the endpoint without boards: places, queue, withdrawal, and what a dead controller leaves."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from ground_controller.client import Client
from ground_controller.client_events import TokenArrived
from ground_controller.endpoint import messages as m
from ground_controller.endpoint.hatch import Hatch
from ground_controller.feed import Feed
from ground_controller.inbox import Inbox
from ground_controller.preparation import Prepared, prepare
from ground_controller.run_record import RunRecord
from hil_config.schema.load import default_path, load_bench, load_campaign

DESCRIBED = m.Described("run", "model", 64, 0, 1, "{}")


class Server:
    """One connection, line by line."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10.0)
        handle = os.open(folder, os.O_RDONLY)
        self._socket.connect(f"/proc/self/fd/{handle}/{m.SOCKET}")
        os.close(handle)
        self._lines: IO[bytes] = self._socket.makefile("rb")

    def say(self, said: m.FromServer | bytes) -> None:
        self._socket.sendall(said if isinstance(said, bytes) else m.line(said))

    def hear(self) -> m.FromRun | None:
        line = self._lines.readline()
        return m.from_run(line) if line else None

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Open:
    """A hatch with two places and one to wait at, over a run's feed and client that know no board."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        self.folder, self._inbox = folder, Inbox()
        self.record = RunRecord(self._inbox)
        self.client = Client("run", {}, lambda avoid: None, self.record.client_event, 0, 60.0)
        self.feed = Feed(prepared, self.client, self.record, ())
        self.hatch = Hatch(folder, DESCRIBED, 2, 1)
        self.hatch.start(self.feed)
        self.servers: list[Server] = []

    def connect(self) -> Server:
        self.servers.append(Server(self.folder))
        assert self.servers[-1].hear() == DESCRIBED
        return self.servers[-1]

    def token(self, request: int, token: int) -> None:
        self.record.client_event(TokenArrived(request, 1, 0, token, 0.0, 0.0, (), False, 0.0))

    def withdrawn(self) -> list[int]:
        """Generations that the client was told to end, in their order."""
        return [request.id for request, reason in self.client.take_ended() if reason == "withdrawn by its client"]

    def close(self) -> None:
        self.hatch.stop()
        self.client.close()
        for server in self.servers:
            server.close()


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign")))


@pytest.fixture
def opened(tmp_path: Path, prepared: Prepared) -> Iterator[Open]:
    deep = tmp_path / ("d" * 120)  # longer than a socket's address may be
    deep.mkdir()
    (deep / m.SOCKET).touch()  # a controller that died left its socket
    found = Open(deep, prepared)
    yield found
    found.close()
    assert not (deep / m.SOCKET).exists()


def _ask(number: int, want: int = 2) -> m.Ask:
    return m.Ask(number, "a", (0, 5), want)


def test_only_its_owner_may_use_it(opened: Open) -> None:
    assert stat.S_IMODE((opened.folder / m.SOCKET).stat().st_mode) == 0o600


def test_places_queue_and_the_next(opened: Open) -> None:
    server = opened.connect()
    for number in (7, 8, 9, 10):
        server.say(_ask(number))
    assert [server.hear() for _ in range(3)] == [
        m.Begun(7, 1), m.Begun(8, 2), m.Refused(10, True, "2 generations are under way and 1 wait")
    ]  # fmt: skip
    opened.token(1, 5)
    opened.token(1, 0)  # the end of the text frees the place for the one that waits
    assert [server.hear() for _ in range(4)] == [
        m.TokenSaid(7, 5), m.TokenSaid(7, 0), m.Ended(7, "end of text"), m.Begun(9, 3)
    ]  # fmt: skip
    opened.token(2, 5)
    opened.token(2, 6)
    assert [server.hear() for _ in range(3)] == [m.TokenSaid(8, 5), m.TokenSaid(8, 6), m.Ended(8, "length")]
    opened.client.stop_all("the replayed orbit ended")
    opened.feed.collect()
    assert server.hear() == m.Ended(9, "the replayed orbit ended")


def test_what_is_withdrawn_frees_its_place(opened: Open) -> None:
    leaving, staying = opened.connect(), opened.connect()
    leaving.say(_ask(1))
    assert leaving.hear() == m.Begun(1, 1)
    leaving.say(_ask(2))
    assert leaving.hear() == m.Begun(2, 2)
    leaving.say(m.Withdraw(1))
    leaving.say(_ask(3))
    assert leaving.hear() == m.Begun(3, 3)
    assert opened.withdrawn() == [1]
    staying.say(_ask(1))  # waits: both places are taken
    leaving.close()  # its two generations go with it
    assert staying.hear() == m.Begun(1, 4)
    assert opened.withdrawn() == [2, 3]


@pytest.mark.parametrize("ask", [m.Ask(1, "a", (), 1), m.Ask(1, "a", (0,), 0), m.Ask(1, "a", (0,), 64)])
def test_what_does_not_fit(opened: Open, ask: m.Ask) -> None:
    server = opened.connect()
    server.say(ask)
    refused = server.hear()
    assert isinstance(refused, m.Refused)
    assert not refused.busy
    assert not opened.client.running


@pytest.mark.parametrize("line", [b"{}\n", b"\xff\n", b'{"type":"ask","id":"x"}\n', b"GET / HTTP/1.1\r\n"])
def test_whoever_speaks_otherwise_is_cut_off(opened: Open, line: bytes) -> None:
    server, other = opened.connect(), opened.connect()
    server.say(line)
    assert server.hear() is None
    other.say(_ask(1))
    assert other.hear() == m.Begun(1, 1)
