"""Mutual TLS 1.3 between parties of one bench, and what went wrong with it in words a person can act on.

Identities are names (see `firmware_tools/identity.py`): the connecting side asks for the name it means to reach and
checks it, wherever that is; the accepting side learns who came from the certificate. In TLS 1.3 a client has finished
its handshake before the server has looked at its certificate, so the server says one byte (`READY`) when it is
satisfied; without it a refused node would learn of it only after its first frames were lost.
"""

from __future__ import annotations

import socket
import ssl
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from hil_config.errors import ConfigError, EnvironmentFault, HilError, LinkError

BUILT_S = 1_793_491_200
"""1 November 2026: a clock before this release was made is a clock that nobody has set."""

BROKER = "broker"
"""The name that the MQTT broker's certificate is for."""

HANDSHAKE_TIMEOUT_S = 5.0
SILENCE_S = 0.25
"""A broker that has said nothing for so long after the handshake has taken our certificate."""

READY = b"\x06"
_FILES = ("ca.pem", "certificate.pem", "key.pem")
_CLOCK_HINT = "set the clock: hil provision does, so does NTP; or by hand: date -u -s '2026-11-25 12:00'"
_NOT_YET, _ENDED, _REVOKED, _WRONG_NAME = 9, 10, 23, 62
_UNKNOWN_ISSUER = {2, 18, 19, 20, 21}


class TlsFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Paths of PEM files: the bench's authority, this party's certificate and key, and a revocation list or ""."""

    ca: str
    certificate: str
    key: str
    crl: str = ""


def identity_files(folder: Path) -> TlsFiles:
    """The files of an identity folder ({ca,certificate,key}.pem, and crl.pem where there is one)."""
    ca, certificate, key = (str(folder / name) for name in _FILES)
    crl = folder / "crl.pem"
    return TlsFiles(ca, certificate, key, str(crl) if crl.exists() else "")


class _NamedContext(ssl.SSLContext):
    """Checks for one name whatever address was dialled, also when a library passes the address."""

    party: str = ""

    def wrap_socket(self, sock: socket.socket, *args: object, **options: object) -> ssl.SSLSocket:
        if not options.get("server_side"):
            options["server_hostname"] = self.party or options.get("server_hostname")
        return super().wrap_socket(sock, *args, **options)  # type: ignore[arg-type]  # handed through as they came


def _context(files: TlsFiles, protocol: int) -> _NamedContext:
    check_own_certificate(files)
    context = _NamedContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    where = f"{files.certificate} with {files.key}"
    try:
        for file in (files.key, files.ca, files.crl):
            if file:
                Path(file).read_bytes()  # ssl would not say which of them it could not read
        context.load_cert_chain(files.certificate, files.key)
        where = files.ca
        context.load_verify_locations(files.ca)
        if files.crl:
            where = files.crl
            context.load_verify_locations(files.crl)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except ssl.SSLError as error:
        raise ConfigError(f"{where}: not usable for TLS: {error.reason or error}", "enrol this party again") from error
    except OSError as error:
        raise ConfigError(
            f"{error.filename or where}: cannot be read: {error.strerror}", "enrol this party again"
        ) from error
    return context


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For a listener: TLS 1.3, and nobody without a certificate of this bench."""
    context = _context(files, ssl.PROTOCOL_TLS_SERVER)
    # No resumption tickets: the client of a one-way connection never reads them, and a socket closed with unread
    # bytes is reset, which can destroy frames that were still on their way.
    context.num_tickets = 0
    return context


def client_context(files: TlsFiles, party: str = "") -> ssl.SSLContext:
    """For whoever connects; `party` is the name that the other side must prove, for libraries that only dial."""
    context = _context(files, ssl.PROTOCOL_TLS_CLIENT)
    context.party = party
    return context


def check_own_certificate(files: TlsFiles, now_s: float | None = None) -> float:
    """Days that our own certificate still lasts; an error if it has ended or not begun, or the clock is not set."""
    from cryptography import x509

    try:
        own = x509.load_pem_x509_certificate(Path(files.certificate).read_bytes())
    except OSError as error:
        raise ConfigError(f"{files.certificate}: cannot be read: {error.strerror}", "enrol this party again") from error
    except (ValueError, x509.InvalidVersion) as error:
        raise ConfigError(f"{files.certificate}: not a certificate in PEM", "enrol this party again") from error
    now = datetime.fromtimestamp(time.time() if now_s is None else now_s, timezone.utc)
    if now < own.not_valid_before_utc:
        raise clock_fault(now.timestamp()) or EnvironmentFault(
            f"{files.certificate}: begins on {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, it is {now:%Y-%m-%d %H:%M}",
            _CLOCK_HINT,
        )
    if now > own.not_valid_after_utc:
        raise ConfigError(
            f"{files.certificate}: ended on {own.not_valid_after_utc:%Y-%m-%d}, today is {now:%Y-%m-%d}",
            "enrol this party again",
        )
    return (own.not_valid_after_utc - now).total_seconds() / 86_400


def own_name(files: TlsFiles) -> str:
    """Whose our certificate is, which `check_own_certificate` found readable."""
    from cryptography import x509

    subject = x509.load_pem_x509_certificate(Path(files.certificate).read_bytes()).subject
    return "".join(str(one.value) for one in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME))


def clock_fault(now_s: float) -> HilError | None:
    """The error of a clock that stands before this release was made, or None."""
    if now_s >= BUILT_S:
        return None
    at = datetime.fromtimestamp(now_s, timezone.utc)
    return EnvironmentFault(f"clock not set: this machine believes it is {at:%Y-%m-%d}", _CLOCK_HINT)


def explain(error: OSError, now_s: float | None = None) -> str:
    """One clause on what a TLS or socket error means."""
    now_s = time.time() if now_s is None else now_s
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code == _NOT_YET:
            unset = clock_fault(now_s)
            return unset.message if unset else "its certificate is not yet valid: one of the two clocks is wrong"
        if code == _ENDED:
            return "its certificate has expired"
        if code == _REVOKED:
            return "its certificate was revoked"
        if code in _UNKNOWN_ISSUER:
            return "its certificate is not from this bench's authority"
        if code == _WRONG_NAME:
            return "its certificate is for another name"
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").upper()
        for word, meaning in _REASONS:
            if word in reason:
                return meaning
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error)


_REASONS = (
    ("CERTIFICATE_REQUIRED", "it refused us: we showed no certificate"),
    ("CERTIFICATE_EXPIRED", "it refused our certificate: expired, or its clock is wrong"),
    ("CERTIFICATE_REVOKED", "it refused our certificate: revoked"),
    ("UNKNOWN_CA", "it refused our certificate: not from its bench's authority"),
    ("BAD_CERTIFICATE", "it refused our certificate: not yet valid by its clock, or damaged"),
    ("CERTIFICATE_UNKNOWN", "it refused our certificate"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "it showed no certificate"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
    ("HTTP_REQUEST", "it does not speak TLS"),
    ("UNSUPPORTED_PROTOCOL", "it does not speak TLS 1.3"),
    ("PROTOCOL_VERSION", "it does not speak TLS 1.3"),
)  # fmt: skip


def common_name(sock: ssl.SSLSocket) -> str:
    """The name in the other side's (verified) certificate."""
    shown: Any = sock.getpeercert() or {}  # typeshed does not know how deep the tuples nest
    for part in shown.get("subject", ()):
        for field, value in part:
            if field == "commonName":
                return str(value)
    return ""


def serial_number(sock: socket.socket | None) -> int | None:
    """Of the other side's (verified) certificate; None in the clear."""
    shown: Any = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    return int(shown["serialNumber"], 16) if shown else None


def accept(sock: socket.socket, context: ssl.SSLContext) -> tuple[ssl.SSLSocket, str]:
    """The accepting side's handshake: (socket, name of who came). LinkError says why there is none."""
    secure: ssl.SSLSocket | None = None
    try:
        sock.settimeout(HANDSHAKE_TIMEOUT_S)
        secure = context.wrap_socket(sock, server_side=True)
        name = common_name(secure)
        secure.sendall(READY)
        secure.settimeout(None)
    except OSError as error:
        (secure or sock).close()  # a wrapped socket is the wrapper's to close
        raise LinkError(explain(error)) from error
    return secure, name


def connect(address: tuple[str, int], context: ssl.SSLContext, party: str, timeout_s: float) -> ssl.SSLSocket:
    """A connection to `party` at `address` that has been accepted. LinkError says why there is none."""
    try:
        sock = socket.create_connection(address, timeout_s)
    except OSError as error:
        raise LinkError(explain(error)) from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secure = context.wrap_socket(sock, server_hostname=party)
    except OSError as error:
        sock.close()
        raise LinkError(explain(error)) from error
    try:
        if common_name(secure) != party:  # DNS names compare without case, names of boards do not
            raise LinkError(f"its certificate is for {common_name(secure)!r}, wanted {party!r}")
        if secure.recv(1) != READY:
            raise LinkError("it closed the connection during the handshake")
    except LinkError:
        secure.close()
        raise
    except OSError as error:
        secure.close()
        raise LinkError(explain(error)) from error
    return secure


def check_accepted(address: tuple[str, int], context: ssl.SSLContext) -> None:
    """Raise LinkError with the reason if a server that speaks only when spoken to refuses us.

    The MQTT library knows no more than that the connection broke; this asks once, before it begins.
    """
    try:
        with socket.create_connection(address, HANDSHAKE_TIMEOUT_S) as raw, context.wrap_socket(raw) as secure:
            secure.settimeout(SILENCE_S)
            if not secure.recv(1):
                raise LinkError("it closed the connection after the handshake")
    except TimeoutError:
        return
    except OSError as error:
        raise LinkError(explain(error)) from error
