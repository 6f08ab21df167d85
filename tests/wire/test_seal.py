"""Sealed frames: two rings meet in memory; nothing changed, replayed or misdirected is ever accepted."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_tools.identity import Authority, Identity, read_certificate, write_identity
from hil_config.errors import ConfigError, RemoteProtocolError
from hil_config.replay_window import WINDOW, ReplayWindow
from hil_config.seal import KeyRing, Offer
from hil_config.tls import TlsFiles, identity_files
from hil_config.wire.frames import ExpertCall, FrameDecoder, Hello, Sealed, Token, encode_frame

Make = Callable[..., KeyRing]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seal")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("lab")


@pytest.fixture(scope="module")
def make(home: Path, authority: Authority) -> Make:
    numbers = itertools.count()

    def ring(name: str, boot: str = "", aead: Any = None, identity: Identity | None = None) -> KeyRing:
        folder = home / str(next(numbers))
        write_identity(folder, identity or authority.issue(name))
        (folder / "ca.pem").write_bytes(authority.certificate)
        return KeyRing(name, boot or f"boot-{name}", identity_files(folder), aead)

    return ring


def _meet(a: KeyRing, b: KeyRing, run: str = "run") -> tuple[KeyRing, KeyRing]:
    assert a.meet(run, b.offer) == b.name and b.meet(run, a.offer) == a.name
    return a, b


def _call(call: int = 7, layer: int = 3) -> ExpertCall:
    hidden = np.arange(64, dtype=np.float32).reshape(2, 32)
    experts, weights = np.array([[1, 2], [3, -1]], np.int16), np.array([[0.5, 0.5], [1.0, 0.0]], np.float32)
    return ExpertCall(call, 1, layer, 2, 32, 2, experts, weights, hidden)


def _read(data: bytes) -> Sealed:
    decoder = FrameDecoder()
    decoder.receive(data)
    frame = decoder.next_frame()
    assert isinstance(frame, Sealed)
    return frame


@pytest.mark.parametrize("aead", ["aes-256-gcm", "chacha20-poly1305"])
def test_a_frame_comes_out_as_it_went_in_and_nothing_of_it_shows(make: Make, aead: str) -> None:
    a, b = _meet(make("a"), make("b", aead=aead))
    data = a.seal("run", "b", _call(), "fp32")
    out = b.open("run", _read(data))
    assert isinstance(out, ExpertCall) and (out.call, out.layer) == (7, 3)
    np.testing.assert_array_equal(out.hidden, _call().hidden)
    assert _call().hidden.tobytes()[:16] not in data and _call().weights.tobytes()[:8] not in data


def test_a_frame_is_opened_once_by_its_receiver_in_its_run(make: Make) -> None:
    a, b = _meet(make("a"), make("b"))
    _meet(a, b, "other")
    c = make("c")
    _meet(a, c)
    data = _read(a.seal("run", "b", _call(), "fp32"))
    with pytest.raises(RemoteProtocolError, match="sealed for 'b', this is 'c'"):
        c.open("run", data)
    with pytest.raises(RemoteProtocolError, match="was changed on its way"):
        c.open("run", msgspec.structs.replace(data, receiver="c"))
    with pytest.raises(RemoteProtocolError, match="was changed on its way"):
        b.open("other", data)
    with pytest.raises(RemoteProtocolError, match="who made no offer for this run"):
        b.open("third", data)
    b.open("run", data)
    with pytest.raises(RemoteProtocolError, match="came before"):
        b.open("run", data)
    with pytest.raises(RemoteProtocolError, match="was changed on its way"):
        b.open("run", msgspec.structs.replace(data, seq=data.seq + 1))


def test_our_own_frame_sent_back_to_us_is_refused(make: Make) -> None:
    a, _ = _meet(make("a"), make("b"))
    mirrored = _read(a.seal("run", "b", _call(), "fp32"))
    with pytest.raises(RemoteProtocolError, match="was changed on its way"):
        a.open("run", Sealed("b", "boot-b", "a", mirrored.seq, mirrored.payload))


def test_lost_and_late_frames_are_no_trouble_and_no_order_opens_one_twice(make: Make) -> None:
    a, b = _meet(make("a"), make("b"))
    sent = [_read(a.seal("run", "b", _call(n), "fp32")) for n in range(400)]
    chance = random.Random(4)
    kept = [f for f in sent if chance.random() > 0.1] * 2
    chance.shuffle(kept)
    opened: list[int] = []
    for sealed in kept:
        try:
            b.open("run", sealed)
            opened.append(sealed.seq)
        except RemoteProtocolError:
            assert sealed.seq in opened, "only a second copy is refused"
    assert sorted(opened) == sorted({sealed.seq for sealed in kept})


def test_a_restarted_peer_has_new_keys_and_its_old_frames_are_refused(make: Make) -> None:
    a, b = _meet(make("a"), make("b"))
    old = _read(b.seal("run", "a", _call(), "fp32"))
    reborn = make("b", boot="boot-2")
    _meet(a, reborn)
    assert isinstance(reborn.open("run", _read(a.seal("run", "b", _call(), "fp32"))), ExpertCall)
    a.open("run", old)  # was under way when b restarted: rightly sealed, and once only
    with pytest.raises(RemoteProtocolError):
        a.open("run", old)
    a.meet("run", b.offer, newest=False)  # what the ground handed out earlier does not turn the clock back
    assert isinstance(reborn.open("run", _read(a.seal("run", "b", _call(), "fp32"))), ExpertCall)


def test_a_run_prepared_twice_neither_repeats_a_nonce_nor_opens_a_frame_twice(make: Make) -> None:
    a, b = _meet(make("a"), make("b"))
    first = _read(a.seal("run", "b", _call(), "fp32"))
    b.open("run", first)
    _meet(a, b)
    assert _read(a.seal("run", "b", _call(), "fp32")).seq > first.seq
    with pytest.raises(RemoteProtocolError, match="came before"):
        b.open("run", first)


def _changed_offer(ring: KeyRing, **changes: Any) -> bytes:
    offer = msgspec.msgpack.decode(ring.offer, type=Offer)
    return msgspec.msgpack.encode(msgspec.structs.replace(offer, **changes))


def test_offers_must_be_signed_by_the_certificate_they_speak_for(make: Make, authority: Authority) -> None:
    a, b, c = make("a"), make("b"), make("c")
    certificate = msgspec.msgpack.decode(c.offer, type=Offer).certificate
    for change in ({"public": bytes(32)}, {"boot_id": "x"}, {"name": "c"}, {"certificate": certificate}):
        with pytest.raises(RemoteProtocolError, match="not signed by a certificate of this bench"):
            a.meet("run", _changed_offer(b, **change))
    with pytest.raises(RemoteProtocolError, match="speaks for 'b', its certificate for"):
        a.meet("run", make("b", identity=authority.issue("c")).offer)
    with pytest.raises(RemoteProtocolError, match=r"offer: "):
        a.meet("run", make("b", identity=Authority.create("lab").issue("b")).offer)
    old = authority.issue("b", days=1, now=datetime.now(timezone.utc) - timedelta(days=5))
    with pytest.raises(RemoteProtocolError, match="is not valid now"):
        a.meet("run", make("b", identity=old).offer)


def test_a_revoked_board_cannot_be_met(home: Path, authority: Authority, make: Make) -> None:
    bad = authority.issue("b")
    folder = home / "with-list"
    write_identity(folder, authority.issue("a"))
    (folder / "crl.pem").write_bytes(authority.revocations((read_certificate(bad.certificate).serial,)))
    a = KeyRing("a", "boot", identity_files(folder))
    a.meet("run", make("b").offer)
    with pytest.raises(RemoteProtocolError, match="was revoked"):
        a.meet("run", make("b", identity=bad).offer)


def test_mutated_offers_raise_protocol_errors_only(make: Make) -> None:
    a, b = make("a"), make("b")
    chance = random.Random(9)
    for _ in range(2000):
        data = bytearray(b.offer)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        if bytes(data) == b.offer:
            continue
        with pytest.raises(RemoteProtocolError):
            a.meet("run", bytes(data))


def test_a_sealed_frame_that_hides_an_envelope_is_refused(make: Make) -> None:
    a, b = _meet(make("a"), make("b"))
    for frame in (Hello("x", "run", "boot"), Sealed("a", "b", "c", 1, b"x")):
        with pytest.raises(RemoteProtocolError, match="cannot be sealed"):
            b.open("run", _read(a.seal("run", "b", frame, "fp32")))


def _tamper(ring: KeyRing, good: list[bytes], count: int, seed: int) -> int:
    """Hand `count` changed frames to `ring`, checksum mended so that only the seal stands; how many it accepted."""
    chance = random.Random(seed)
    accepted = 0
    parsed = [_read(data) for data in good]
    for _ in range(count):
        frame = parsed[chance.randrange(len(parsed))]
        sender, boot, receiver, seq, payload = frame.sender, frame.boot_id, frame.receiver, frame.seq, frame.payload
        kind = chance.randrange(6)
        if kind == 0:
            seq += chance.choice((-1, 1, 1 << 32)) * chance.randint(1, 99)
        elif kind == 1:
            payload = payload[: chance.randrange(len(payload))]
        elif kind == 2:
            payload = chance.choice(parsed).payload
        else:
            changed = bytearray(payload)
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            payload = bytes(changed)
        if (seq, payload) == (frame.seq, frame.payload):
            payload = payload[:-1]
        try:
            ring.open("run", Sealed(sender, boot, receiver, seq, payload))
            accepted += 1
        except RemoteProtocolError:
            pass
    return accepted


@pytest.mark.parametrize("aead", ["aes-256-gcm", "chacha20-poly1305"])
def test_no_tampered_frame_is_accepted(make: Make, aead: str) -> None:
    """A million in all."""
    a, b = _meet(make("a"), make("b", aead=aead))
    token = Token(1, 1, 5, 9, -0.5, 1.0, ())
    good = [a.seal("run", "b", frame, "fp32") for frame in (_call(), token, _call(8))]
    assert _tamper(b, good, 500_000, seed=1) == 0
    for data in good:
        b.open("run", _read(data))  # untouched, each is still good


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 3 * WINDOW), max_size=300))
def test_the_window_takes_each_number_once(numbers: list[int]) -> None:
    window, taken, top = ReplayWindow(), set[int](), 0
    for seq in numbers:
        fresh = seq not in taken and seq > top - WINDOW
        assert window.fresh(seq) == fresh and window.mark(seq) == fresh
        if fresh:
            taken.add(seq)
            top = max(top, seq)


def test_a_ring_without_its_files_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not usable"):
        KeyRing("a", "boot", TlsFiles("x", str(tmp_path / "no"), "y"))


def test_encoding_a_sealed_frame_is_like_any_other() -> None:
    frame = Sealed("a", "boot", "b", 5, b"payload")
    again = _read(encode_frame(frame))
    assert (again.sender, again.boot_id, again.receiver, again.seq, again.payload) == ("a", "boot", "b", 5, b"payload")
