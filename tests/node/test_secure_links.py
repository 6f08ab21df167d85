"""The data plane under mutual TLS: the same tokens, and nobody who cannot prove its name."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firmware_tools.identity import Authority, read_certificate, write_identity
from hil_config.errors import ConfigError, EnvironmentFault, LinkError
from hil_config.tls import check_own_certificate, client_context, connect, explain, identity_files, server_context
from hil_config.wire.frames import Hello, encode_frame
from node_agent.config import AgentConfig, read_config
from node_agent.link.security import DAY_S, CertificateWatch, certificate_events
from tests.node.nodes import RUN, Bench

PROMPT = [0, 10, 11, 12]


@pytest.fixture
def secured(reference_shards: Path, identities: Path) -> Iterator[Bench]:
    made = Bench(reference_shards, identities=identities)
    yield made
    made.close()


def test_tokens_over_mutual_tls_are_the_tokens_in_the_clear(bench: Bench, secured: Bench) -> None:
    clear = [(t.position, t.token, t.logprob) for t in bench.generate(PROMPT, 16)]
    assert [(t.position, t.token, t.logprob) for t in secured.generate(PROMPT, 16)] == clear


def _dial(bench: Bench, context: ssl.SSLContext, party: str = "a") -> ssl.SSLSocket:
    return connect(bench.nodes["a"].listener.address, context, party, 5.0)


def _say_hello(bench: Bench, context: ssl.SSLContext, peer: str) -> str:
    """What node `a` answers somebody who says it is `peer`, after it closed the connection."""
    with _dial(bench, context) as sock:
        sock.sendall(encode_frame(Hello(peer, RUN, "boot")))
        assert sock.recv(1) == b""
    assert bench.wait(lambda: bool(bench.nodes["a"].refused))
    return bench.nodes["a"].refused[-1]


def test_a_name_must_be_proven_and_belong_to_the_run(secured: Bench, identities: Path) -> None:
    stranger = client_context(identity_files(identities / "stranger"))
    assert "says it is 'b', its certificate says 'stranger'" in _say_hello(secured, stranger, "b")
    secured.nodes["a"].refused.clear()
    assert "it is not among this run's peers" in _say_hello(secured, stranger, "stranger")


def test_the_dialling_side_checks_whom_it_reached(secured: Bench, identities: Path) -> None:
    context = client_context(identity_files(identities / "b"))
    with pytest.raises(LinkError, match="its certificate is for another name"):
        _dial(secured, context, "d")
    with pytest.raises(LinkError, match="its certificate is for 'a', wanted 'A'"):
        _dial(secured, context, "A")


def _bare(identities: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(identities / "a" / "ca.pem"))


def _rogue(identities: Path, tmp_path: Path) -> ssl.SSLContext:
    write_identity(tmp_path / "rogue", Authority.create("other").issue("b"))
    (tmp_path / "rogue" / "ca.pem").write_bytes((identities / "a" / "ca.pem").read_bytes())
    return client_context(identity_files(tmp_path / "rogue"))


@pytest.mark.parametrize(
    ("make", "ours", "theirs"),
    [
        (lambda i, t: _bare(i), "it refused us: we showed no certificate", "it showed no certificate"),
        (_rogue, "it refused our certificate: not from its", "its certificate is not from this bench's authority"),
    ],
)
def test_missing_and_rogue_certificates_are_refused_on_both_sides_with_the_reason(
    secured: Bench, identities: Path, tmp_path: Path,
    make: Callable[[Path, Path], ssl.SSLContext], ours: str, theirs: str,
) -> None:  # fmt: skip
    with pytest.raises(LinkError, match=ours):
        _dial(secured, make(identities, tmp_path))
    assert secured.wait(lambda: bool(secured.nodes["a"].refused))
    assert theirs in secured.nodes["a"].refused[-1]


def test_a_peer_that_speaks_in_the_clear_is_refused(secured: Bench) -> None:
    with socket.create_connection(secured.nodes["a"].listener.address, 5.0) as sock:
        sock.sendall(encode_frame(Hello("b", RUN, "boot")) + bytes(100))
        assert secured.wait(lambda: bool(secured.nodes["a"].refused))
    assert "it does not speak TLS" in secured.nodes["a"].refused[-1]


def _shake(server: ssl.SSLContext, client: ssl.SSLContext) -> list[OSError]:
    """Errors of both ends of one handshake in memory, as two contexts meet."""
    ends = []
    pipes = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in range(2)]
    ends.append(server.wrap_bio(*pipes[0], server_side=True))
    ends.append(client.wrap_bio(*pipes[1], server_hostname="a"))
    errors: list[OSError] = []
    for _ in range(6):
        for this, other in ((1, 0), (0, 1)):
            try:
                ends[this].do_handshake()
                ends[this].read(1)
            except ssl.SSLWantReadError:
                pass
            except OSError as error:
                if str(error) not in map(str, errors):
                    errors.append(error)
            pipes[other][0].write(pipes[this][1].read())
    return errors


@pytest.mark.parametrize(
    ("days", "begun_ago", "ours", "theirs"),
    [
        (1, 9, "its certificate has expired", "it refused our certificate: expired, or its clock is wrong"),
        (9, -3, "its certificate is not yet valid", "it refused our certificate: not yet valid by its clock"),
    ],
)
def test_expired_and_early_certificates_of_a_peer(
    tmp_path: Path, days: int, begun_ago: int, ours: str, theirs: str
) -> None:
    authority = Authority.create("lab", now=datetime.now(timezone.utc) - timedelta(days=99))
    write_identity(tmp_path / "a", authority.issue("a"))
    write_identity(tmp_path / "b", authority.issue("b"))
    bad = authority.issue("b", days=days, now=datetime.now(timezone.utc) - timedelta(days=begun_ago))
    context = client_context(identity_files(tmp_path / "b"))
    write_identity(tmp_path / "b", bad)
    context.load_cert_chain(tmp_path / "b" / "certificate.pem", tmp_path / "b" / "key.pem")
    said = [explain(error) for error in _shake(server_context(identity_files(tmp_path / "a")), context)]
    assert any(ours in one for one in said) and any(theirs in one for one in said), said


def test_a_clock_that_nobody_set_is_named(tmp_path: Path) -> None:
    write_identity(tmp_path / "a", Authority.create("lab").issue("a"))
    files = identity_files(tmp_path / "a")
    with pytest.raises(EnvironmentFault, match="clock not set: this machine believes it is 1970-01-01"):
        check_own_certificate(files, now_s=100.0)
    with pytest.raises(ConfigError, match="ended on"):
        check_own_certificate(files, now_s=4e9)
    assert 89 < check_own_certificate(files) < 91
    early = ssl.SSLCertVerificationError(1, "not yet valid")
    early.verify_code = 9
    assert explain(early, now_s=100.0).startswith("clock not set")


def test_a_certificate_that_ends_soon_is_told(tmp_path: Path) -> None:
    authority = Authority.create("lab")
    write_identity(tmp_path / "a", authority.issue("a", days=12))
    (event,) = certificate_events(identity_files(tmp_path / "a"))
    assert event.name == "CertificateEndsSoon" and 11.9 < float(event.details["days_left"]) <= 12.0
    write_identity(tmp_path / "b", authority.issue("b"))
    assert not certificate_events(identity_files(tmp_path / "b")) and not certificate_events(None)


def test_an_agent_that_runs_on_looks_once_a_day(tmp_path: Path) -> None:
    authority = Authority.create("lab")
    write_identity(tmp_path / "a", authority.issue("a", days=12))
    watch = CertificateWatch(identity_files(tmp_path / "a"))
    names = [[event.name for event in watch.look(at_s)] for at_s in (5.0, 6.0, DAY_S, DAY_S + 5.0)]
    assert names == [["CertificateEndsSoon"], [], [], ["CertificateEndsSoon"]]
    past = datetime.now(timezone.utc) - timedelta(days=40)
    write_identity(tmp_path / "a", authority.issue("a", days=12, now=past))
    (event,) = watch.look(3 * DAY_S)
    assert event.name == "CertificateEnded" and "ended on" in str(event.details["reason"])


def test_a_revoked_peer_is_refused(tmp_path: Path) -> None:
    authority = Authority.create("lab")
    write_identity(tmp_path / "a", authority.issue("a"))
    bad = authority.issue("b")
    write_identity(tmp_path / "b", bad)
    (tmp_path / "a" / "crl.pem").write_bytes(authority.revocations((read_certificate(bad.certificate).serial,)))
    files = identity_files(tmp_path / "a")
    assert files.crl
    said = [explain(e) for e in _shake(server_context(files), client_context(identity_files(tmp_path / "b")))]
    assert "its certificate was revoked" in said and "it refused our certificate: revoked" in said
    write_identity(tmp_path / "c", authority.issue("c"))
    assert not _shake(server_context(files), client_context(identity_files(tmp_path / "c")))


def test_an_agent_that_would_obey_anybody_or_speak_in_the_clear_does_not_start(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "node": "a", "bench": "lab", "broker_host": "10.0.0.1", "broker_port": 8883, "data_host": "127.0.0.1",
        "data_port": 7000, "shards": "s", "spool": "s",
        "power_model": {"profile": "x", "idle_w": 1, "per_core_w": 1, "cores": 1, "cpu_scale": 1},
    }  # fmt: skip
    path = tmp_path / "agent.json"

    def read(**more: object) -> AgentConfig:
        path.write_bytes(msgspec.json.encode({**fields, **more}))
        return read_config(path)

    tls = {"ca": "ca.pem", "certificate": "c.pem", "key": "k.pem"}
    with pytest.raises(ConfigError, match=r"broker_host '10\.0\.0\.1': without TLS an agent talks on loopback only"):
        read()
    with pytest.raises(ConfigError, match="tls without command_key: anybody's orders would be taken"):
        read(tls=tls)
    assert read(tls=tls, command_key="pub.pem").tls is not None
    with pytest.raises(ConfigError, match="keepalive_s 0, wanted 1 to 600"):
        read(tls=tls, command_key="pub.pem", keepalive_s=0)
