"""A certificate revoked while its holder is connected: cut off and refused by an agent that runs all along."""

from __future__ import annotations

import queue
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from firmware_tools.identity import Authority, read_certificate, write_identity
from hil_config.durable_file import write_durably
from hil_config.errors import ConfigError, LinkError, RemoteProtocolError
from hil_config.revocation import NONE, Revocations, read_revocations
from hil_config.seal import KeyRing
from hil_config.tls import TlsFiles, client_context, connect, identity_files
from hil_config.wire.frames import Cancel, FrameDecoder, Hello, Sealed, encode_frame
from hil_config.wire.messages import NodeEvent
from node_agent.crew import Crew
from node_agent.link.incoming import Listener
from node_agent.link.outgoing import UNSHAPED, OutgoingLink
from node_agent.link.security import RevocationWatch, secure

NOW = datetime.now(timezone.utc)


class Side:
    """Node `a` as an agent wires it: contexts, ring, listener, and the watch over its list."""

    def __init__(self, home: Path, authority: Authority) -> None:
        self.authority = authority
        write_identity(home / "a", authority.issue("a"))
        self.crl = home / "a" / "crl.pem"
        self.bring(authority.revocations((), now=NOW))
        self.tls = identity_files(home / "a")
        self.security = secure(self.tls, "a", "boot-a")
        self.ended: queue.Queue[tuple[str, str]] = queue.Queue()
        self.heard: queue.Queue[str] = queue.Queue()
        self._crew = Crew()
        self.listener = Listener(
            self._crew, "127.0.0.1", 0, lambda hello: "",
            lambda peer, frame, at_s: self.heard.put(peer), lambda peer, reason: self.ended.put((peer, reason)),
            self.security.listen,
        )  # fmt: skip
        self._crew.start("listener", self.listener.work)
        self.cut: list[frozenset[int]] = []
        self.watch = RevocationWatch(self.tls, self.security, None, self._cut)

    def _cut(self, revoked: frozenset[int]) -> None:
        self.cut.append(revoked)
        self.listener.cut(revoked)

    def bring(self, listed: bytes) -> None:
        write_durably(self.crl, listed)

    def told(self) -> NodeEvent:
        (event,) = self.watch.look()
        return event

    def dial(self, files: TlsFiles) -> ssl.SSLSocket:
        return connect(self.listener.address, client_context(files), "a", 5.0)

    def close(self) -> None:
        self.listener.close()
        self._crew.dismiss()


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    made = Side(tmp_path, Authority.create("lab"))
    yield made
    made.close()


def member(side: Side, home: Path, name: str) -> tuple[TlsFiles, int]:
    made = side.authority.issue(name)
    write_identity(home / name, made)
    return identity_files(home / name), read_certificate(made.certificate).serial


def test_a_peer_that_was_connected_is_cut_off_and_refused_from_then_on(side: Side, tmp_path: Path) -> None:
    bad, serial = member(side, tmp_path, "b")
    good, other = member(side, tmp_path, "c")
    with side.dial(bad) as theirs, side.dial(good) as ours:
        for name, sock in (("b", theirs), ("c", ours)):
            sock.sendall(encode_frame(Hello(name, "run", "boot")))
        assert side.watch.look() == (), "nothing has changed"
        side.bring(side.authority.revocations((serial,), now=NOW + timedelta(seconds=1)))
        event = side.told()
        assert (event.name, event.details["revoked"]) == ("RevocationsRead", 1)
        assert side.ended.get(timeout=10) == ("b", "closed")
        assert theirs.recv(1) == b"", "its open connection was ended"
        with pytest.raises(LinkError, match="it refused our certificate: revoked"):
            side.dial(bad)
        side.dial(good).close()
        ours.sendall(encode_frame(Cancel(1, 1)))
        assert side.heard.get(timeout=10) == "c", "the other connection goes on"
        assert side.cut == [frozenset({serial})]
    # A second list, made in the second after: the newer one counts.
    side.bring(side.authority.revocations((serial, other), now=NOW + timedelta(seconds=2)))
    assert side.told().details["revoked"] == 2
    with pytest.raises(LinkError, match="revoked"):
        side.dial(good)


def test_a_link_to_a_revoked_peer_is_not_made_again(side: Side, tmp_path: Path) -> None:
    files, serial = member(side, tmp_path, "b")
    crew, lost = Crew(), queue.Queue[tuple[str, str]]()
    there = secure(files, "b", "boot-b")
    listener = Listener(crew, "127.0.0.1", 0, lambda hello: "", lambda *_: None, lambda *_: None, there.listen)
    crew.start("listener", listener.work)
    link = OutgoingLink(
        "b", listener.address, encode_frame(Hello("a", "run", "boot-a")), lambda: UNSHAPED,
        lambda *said: lost.put(said), side.security.dial,
    )  # fmt: skip
    try:
        assert link.probe() and link.serial == serial
        side.bring(side.authority.revocations((serial,), now=NOW + timedelta(seconds=1)))
        side.told()
        link.peer_gone()
        assert not link.probe()
        assert "its certificate was revoked" in link.trouble
    finally:
        link.close()
        listener.close()
        crew.dismiss()


def test_what_a_revoked_peer_sealed_is_not_opened(side: Side, tmp_path: Path) -> None:
    files, serial = member(side, tmp_path, "b")
    theirs, ours = KeyRing("b", "boot-b", files), side.security.ring
    assert ours is not None
    ours.meet("run", theirs.offer)
    theirs.meet("run", ours.offer)
    frames = []
    for _ in range(2):
        decoder = FrameDecoder()
        decoder.receive(theirs.seal("run", "a", Cancel(1, 1), "fp32"))
        frame = decoder.next_frame()
        assert isinstance(frame, Sealed)
        frames.append(frame)
    assert isinstance(ours.open("run", frames[0]), Cancel)
    side.bring(side.authority.revocations((serial,), now=NOW + timedelta(seconds=1)))
    side.told()
    with pytest.raises(RemoteProtocolError, match="whose certificate was revoked"):
        ours.open("run", frames[1])
    with pytest.raises(RemoteProtocolError, match="was revoked"):
        ours.meet("run", theirs.offer)


def test_a_list_that_is_older_damaged_or_a_strangers_is_refused_once_and_changes_nothing(
    side: Side, tmp_path: Path
) -> None:
    bad, serial = member(side, tmp_path, "b")
    side.bring(side.authority.revocations((serial,), now=NOW + timedelta(seconds=5)))
    assert side.told().name == "RevocationsRead"
    for listed, reason in (
        (side.authority.revocations((), now=NOW), "is older than"),
        (b"-----BEGIN X509 CRL-----\nnonsense\n-----END X509 CRL-----\n", "not a revocation list in PEM"),
        (Authority.create("lab").revocations((), now=NOW + timedelta(days=1)), "not from this bench's authority"),
    ):
        side.bring(listed)
        event = side.told()
        assert event.name == "RevocationsRefused" and reason in str(event.details["reason"])
        assert side.watch.look() == (), "said once"
        with pytest.raises(LinkError, match="it refused our certificate: revoked"):
            side.dial(bad)
    side.crl.unlink()
    assert side.told().name == "RevocationsRefused"


def test_without_a_list_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert not Revocations(None, ()).reread()
    write_identity(tmp_path / "a", Authority.create("lab").issue("a"))
    files = identity_files(tmp_path / "a")
    assert not files.crl and read_revocations(files) == NONE and not Revocations(files, ()).reread()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_revocations(TlsFiles(files.ca, files.certificate, files.key, str(tmp_path / "none")))
