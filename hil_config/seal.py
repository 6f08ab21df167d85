"""Frames sealed end to end: only the receiver reads them, whoever passes them on.

Every process makes an X25519 key when it starts and offers the public half, signed with the key of its certificate
(`Offer`). Two parties that have each other's offers derive one key per run and direction:

    HKDF-SHA256(X25519(ours, theirs), salt = SHA-256(run),
                info = label, (sender, its boot, its key), (receiver, its boot, its key))

A frame is sealed with ChaCha20-Poly1305 or AES-256-GCM (the receiver's offer says which it opens faster), with a
sequence number as the nonce and (sender, boot, receiver, sequence) as additional data. Run, sender, receiver and both
boots are bound through the key, the sequence through the nonce; kind, request, call and layer are inside. Sequence
numbers rise over the life of the process and never begin again, so a run that is prepared twice repeats no nonce.
A frame may be lost, and may come late by up to a `ReplayWindow`; no frame is accepted twice. Nothing of this depends
on a connection: after an outage it goes on where it was. RFC 7748, RFC 5869, RFC 8439; window as in RFC 4303, 3.4.3.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hil_config.errors import ConfigError, RemoteProtocolError
from hil_config.replay_window import ReplayWindow
from hil_config.revocation import read_revocations
from hil_config.tls import TlsFiles
from hil_config.wire.frames import Frame, Sealed, decode_plain, encode_frame, encode_plain
from hil_config.wire.hidden_codec import Codec

Aead = Literal["aes-256-gcm", "chacha20-poly1305"]
MAX_OFFER_BYTES = 8192
_LABEL = b"hil seal 1"
_AEADS: dict[Aead, type[AESGCM] | type[ChaCha20Poly1305]] = {
    "aes-256-gcm": AESGCM,
    "chacha20-poly1305": ChaCha20Poly1305,
}


class Offer(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a party says about how to seal for it: `certificate` is DER, `signature` ECDSA over the fields before it."""

    name: str
    boot_id: str
    public: bytes
    aead: Aead
    certificate: bytes
    signature: bytes = b""


def quicker_aead() -> Aead:
    """AES-256-GCM where the processor has AES instructions (not the Pi 4), otherwise ChaCha20-Poly1305."""
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return "chacha20-poly1305"
    return "aes-256-gcm" if "aes" in words else "chacha20-poly1305"


class _Session(NamedTuple):
    """One peer in one run, both ways."""

    boot_id: str
    serial: int
    outgoing: AESGCM | ChaCha20Poly1305
    incoming: AESGCM | ChaCha20Poly1305
    window: ReplayWindow
    lock: threading.Lock


class KeyRing:
    """The sealing keys of one process, for all its runs. Thread-safe."""

    def __init__(self, name: str, boot_id: str, tls: TlsFiles, aead: Aead | None = None) -> None:
        self.name, self.boot_id = name, boot_id
        self._private = X25519PrivateKey.generate()
        self._public = _raw(self._private.public_key())
        try:
            key = serialization.load_pem_private_key(Path(tls.key).read_bytes(), None)
            own = x509.load_pem_x509_certificate(Path(tls.certificate).read_bytes())
            self._ca = x509.load_pem_x509_certificate(Path(tls.ca).read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
            raise ConfigError(
                f"{tls.certificate} and its key: not usable: {error}", "enrol this party again"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{tls.key}: a key of another kind, wanted P-256", "enrol this party again")
        self._revoked = read_revocations(tls).serials
        plain = Offer(name, boot_id, self._public, aead or quicker_aead(), own.public_bytes(serialization.Encoding.DER))
        signature = key.sign(_signed(plain), ec.ECDSA(hashes.SHA256()))
        self._own = msgspec.structs.replace(plain, signature=signature)
        self.offer = msgspec.msgpack.encode(self._own)
        """What peers need to seal for us."""
        self._sequence: Iterator[int] = itertools.count(1)
        self._sessions: dict[tuple[str, str, str], _Session] = {}
        self._newest: dict[tuple[str, str], _Session] = {}
        self._lock = threading.Lock()

    def meet(self, run: str, data: bytes, newest: bool = True) -> str:
        """Take a peer's offer for `run`; its name. RemoteProtocolError says what is wrong with it.

        Args:
            newest: it came from the peer itself just now; otherwise it gives way to one that did.
        """
        offer, serial = self._verified(data)
        with self._lock:
            session = self._sessions.get((run, offer.name, offer.boot_id))
            if session is None:
                session = self._sessions[run, offer.name, offer.boot_id] = self._derive(run, offer, serial)
            if newest or (run, offer.name) not in self._newest:
                self._newest[run, offer.name] = session
        return offer.name

    def revoke(self, serials: frozenset[int]) -> None:
        """Believe no offer of these certificates any more, nor open what they seal."""
        self._revoked = serials

    def knows(self, run: str, peer: str) -> bool:
        """Whether a frame can be sealed for `peer`."""
        return (run, peer) in self._newest

    def seal(self, run: str, receiver: str, frame: Frame, codec: Codec) -> bytes:
        """The bytes of a frame that only `receiver` can open. KeyError if its offer is not known."""
        session = self._newest[run, receiver]
        seq = next(self._sequence)
        plain = encode_plain(frame, codec)
        data = session.outgoing.encrypt(_nonce(seq), plain, _bound(self.name, self.boot_id, receiver, seq))
        return encode_frame(Sealed(self.name, self.boot_id, receiver, seq, data))

    def open(self, run: str, sealed: Sealed) -> Frame:
        """The frame inside, or RemoteProtocolError: not for us, of a stranger, changed, or seen before."""
        if sealed.receiver != self.name:
            raise RemoteProtocolError(f"sealed for {sealed.receiver!r}, this is {self.name!r}")
        session = self._sessions.get((run, sealed.sender, sealed.boot_id))
        if session is None:
            raise RemoteProtocolError(f"sealed by {sealed.sender!r} ({sealed.boot_id}), who made no offer for this run")
        if not 0 < sealed.seq < 1 << 63 or not session.window.fresh(sealed.seq):
            raise RemoteProtocolError(f"frame {sealed.seq} of {sealed.sender!r} came before, or is too old to tell")
        if session.serial in self._revoked:
            raise RemoteProtocolError(f"sealed by {sealed.sender!r}, whose certificate was revoked")
        bound = _bound(sealed.sender, sealed.boot_id, sealed.receiver, sealed.seq)
        try:
            plain = session.incoming.decrypt(_nonce(sealed.seq), sealed.payload, bound)
        except InvalidTag as error:
            raise RemoteProtocolError(f"frame {sealed.seq} of {sealed.sender!r} was changed on its way") from error
        with session.lock:
            if not session.window.mark(sealed.seq):
                raise RemoteProtocolError(f"frame {sealed.seq} of {sealed.sender!r} came before")
        return decode_plain(plain)

    def _verified(self, data: bytes) -> tuple[Offer, int]:
        """The offer and the serial number of its certificate."""
        if len(data) > MAX_OFFER_BYTES:
            raise RemoteProtocolError(f"offer of {len(data)} bytes; at most {MAX_OFFER_BYTES}")
        try:
            offer = msgspec.msgpack.decode(data, type=Offer)
            certificate = x509.load_der_x509_certificate(offer.certificate)
            certificate.verify_directly_issued_by(self._ca)
            names = [str(a.value) for a in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
            key = certificate.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey) or len(offer.public) != 32:
                raise ValueError("a key of another kind")
            key.verify(offer.signature, _signed(offer), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise RemoteProtocolError("offer: not signed by a certificate of this bench") from error
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, RecursionError) as error:
            raise RemoteProtocolError(f"offer: {error}") from error
        if names != [offer.name]:
            raise RemoteProtocolError(f"offer: speaks for {offer.name!r}, its certificate for {names}")
        now = datetime.fromtimestamp(time.time(), timezone.utc)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise RemoteProtocolError(f"offer: the certificate of {offer.name!r} is not valid now")
        if certificate.serial_number in self._revoked:
            raise RemoteProtocolError(f"offer: the certificate of {offer.name!r} was revoked")
        return offer, certificate.serial_number

    def _derive(self, run: str, peer: Offer, serial: int) -> _Session:
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(peer.public))
        except ValueError as error:  # a point of small order
            raise RemoteProtocolError(f"offer of {peer.name!r}: its key is not usable") from error
        ours = (self.name, self.boot_id, self._public)
        theirs = (peer.name, peer.boot_id, peer.public)
        return _Session(
            peer.boot_id,
            serial,
            _AEADS[peer.aead](_direction_key(shared, run, ours, theirs)),
            _AEADS[self._own.aead](_direction_key(shared, run, theirs, ours)),
            ReplayWindow(),
            threading.Lock(),
        )


def _raw(public: X25519PublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _signed(offer: Offer) -> bytes:
    return _LABEL + msgspec.msgpack.encode([offer.name, offer.boot_id, offer.public, offer.aead])


def _direction_key(shared: bytes, run: str, sender: tuple[str, str, bytes], receiver: tuple[str, str, bytes]) -> bytes:
    info = _LABEL + msgspec.msgpack.encode([sender, receiver])
    return HKDF(hashes.SHA256(), 32, hashlib.sha256(run.encode()).digest(), info).derive(shared)


def _nonce(seq: int) -> bytes:
    return seq.to_bytes(12, "big")


def _bound(sender: str, boot_id: str, receiver: str, seq: int) -> bytes:
    return f"{sender}\0{boot_id}\0{receiver}\0{seq}".encode()
