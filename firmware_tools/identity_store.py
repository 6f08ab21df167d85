"""The folder that `hil bench init` makes: the authority, who has which certificate, who was revoked, open tokens.

ca.pem ca.key.pem crl.pem       the authority; its key never leaves this folder
broker/ ground/ monitor/        identities whose keys are made here (certificate, key, ca, crl)
boards/NAME.pem                 certificates of boards; their keys are on the boards
command.key.pem .pub.pem        the controller's key for orders
issued.json                     every certificate, also the revoked ones
tokens/NAME.json                a one-time enrolment token, and when it ends
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import hmac
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

import msgspec

from firmware_tools import identity as x509
from firmware_tools.state import write_whole
from hil_config.errors import ConfigError, EnvironmentFault, SafetyRefusal, UsageError

TOKEN_S = 7 * 86_400
OWN = (x509.BROKER, x509.GROUND, x509.MONITOR)
"""Parties whose keys are made on the ground."""


class Issued(msgspec.Struct, frozen=True):
    """One certificate; `serial` in hexadecimal, `ends` in Unix seconds."""

    name: str
    serial: str
    ends: float
    revoked: bool = False
    addresses: tuple[str, ...] = ()

    def days_left(self, now_s: float) -> float:
        return (self.ends - now_s) / 86_400


class Register(msgspec.Struct, frozen=True):
    """issued.json"""

    bench: str
    certificates: tuple[Issued, ...] = ()


class Token(msgspec.Struct, frozen=True):
    """tokens/NAME.json"""

    token: str
    ends: float


class IdentityStore:
    """Args: `folder`, made by `create`.

    Raises:
        ConfigError: it is not there or not complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._register = self._read()
        self._authority = x509.Authority.read(folder)

    @classmethod
    def of(cls, folder: Path, bench: str) -> IdentityStore:
        """That of a bench, by the name in its bench file.

        Raises:
            ConfigError: as the constructor; or it is another bench's, whose broker lets nobody write to our topics.
        """
        store = cls(folder)
        if store.bench != bench:
            raise ConfigError(
                f"{folder}: is of bench {store.bench!r}, the bench file is of {bench!r}",
                f"write `bench: {store.bench}`, or the folder of this bench as `identity`",
            )
        return store

    def _read(self) -> Register:
        try:
            return msgspec.json.decode((self.folder / "issued.json").read_bytes(), type=Register)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.folder}: is no identity folder: {error}", "make one: hil bench init") from error

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The register as it is now, which nobody else changes meanwhile: boards are enrolled side by side."""
        with _locked(self.folder / "issued.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._register = self._read()
            yield

    @classmethod
    def create(cls, folder: Path, bench: str, addresses: tuple[str, ...]) -> IdentityStore:
        """A new authority with the certificates of broker, ground and monitor; the folder appears whole or not at all.

        Raises:
            SafetyRefusal: there is one already; a new authority would make every board's certificate worthless.
            EnvironmentFault: it cannot be written.
        """
        whole = folder.absolute()
        new = whole.with_name(f".{whole.name}.{os.getpid()}.new")
        try:
            if os.path.isdir(whole) and os.listdir(whole):
                raise _taken(folder)
            new.mkdir(parents=True, mode=0o700)
            cls._fill(new, bench, addresses)
            new.rename(whole)  # over a folder that is empty, and over no other
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise _taken(folder) from error
            raise _refused(folder, error) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return cls(folder)

    @classmethod
    def _fill(cls, folder: Path, bench: str, addresses: tuple[str, ...]) -> None:
        x509.Authority.create(bench).write(folder)
        private, public = x509.make_command_key()
        x509.write_private(folder / x509.COMMAND_KEY_FILE, private)
        x509.write_private(folder / x509.COMMAND_PUBLIC_FILE, public, 0o644)
        write_whole(folder / "issued.json", msgspec.json.encode(Register(bench)))
        store = cls(folder)
        store.issue(x509.BROKER, addresses)
        for name in (x509.GROUND, x509.MONITOR):
            store.issue(name)
        store._revocations()

    @property
    def bench(self) -> str:
        return self._register.bench

    @property
    def ca(self) -> bytes:
        """The authority's certificate (PEM)."""
        return self._authority.certificate

    def file(self, name: str) -> bytes:
        """Of the files that boards get, such as the revocation list; ConfigError if it is not there."""
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            hint = "hil bench identity revoke writes the list anew; for the others take the folder's backup"
            raise ConfigError(f"{self.folder / name}: cannot be read: {error.strerror}", hint) from error

    def rows(self) -> tuple[Issued, ...]:
        """Every certificate that was not replaced, oldest first."""
        return self._register.certificates

    def valid(self, name: str) -> Issued | None:
        """The certificate in force of a party, or None."""
        found = [one for one in self._register.certificates if one.name == name and not one.revoked]
        return found[-1] if found else None

    def issue(self, name: str, addresses: tuple[str, ...] = (), days: float = x509.CERTIFICATE_DAYS) -> Issued:
        """An identity of the ground side, key and all, in FOLDER/NAME.

        Raises:
            UsageError: a board's key is made on the board.
        """
        if name not in OWN:
            raise UsageError(f"{name}: a board makes its own key", f"enrol it: hil provision {name}")
        made = self._authority.issue(name, days, addresses)
        x509.write_identity(self.folder / name, made)
        return self._note(name, made.certificate, addresses)

    def sign(self, name: str, request: bytes, days: float = x509.CERTIFICATE_DAYS) -> bytes:
        """A board's certificate from its request; FOLDER/boards/NAME.pem keeps a copy."""
        if name in OWN:
            raise UsageError(f"{name}: is not a board", "choose another name for the board")
        certificate = self._authority.sign(request, name, days)
        x509.write_private(self.folder / "boards" / f"{name}.pem", certificate, 0o644)
        self._note(name, certificate, ())
        return certificate

    def renew(self, name: str, days: float = x509.CERTIFICATE_DAYS) -> Issued:
        """A new key and certificate for a party of the ground side, also after `revoke`; the old one is not revoked."""
        known = [one for one in self._register.certificates if one.name == name]
        if not known:
            raise ConfigError(f"{name}: was never given a certificate", "see: hil bench identity list")
        return self.issue(name, known[-1].addresses, days)

    def revoke(self, name: str) -> tuple[Issued, ...]:
        """Every certificate of `name` goes on the revocation list; the broker reads it when it is started again."""
        with self._changing():
            if not any(one.name == name for one in self._register.certificates):
                raise ConfigError(f"{name}: was never given a certificate", "see: hil bench identity list")
            rows = tuple(
                msgspec.structs.replace(one, revoked=True) if one.name == name else one
                for one in self._register.certificates
            )
            self._keep(rows)
            self._revocations()
        return tuple(one for one in rows if one.name == name)

    def make_token(self, name: str) -> str:
        """A new one-time token for a board's enrolment; an older one ends."""
        token = secrets.token_urlsafe(24)
        folder = self.folder / "tokens"
        try:
            folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise _refused(folder, error) from error
        kept = Token(token, time.time() + TOKEN_S)
        write_whole(folder / f"{name}.json", msgspec.json.encode(kept))
        return token

    def enrol(self, name: str, proof: str, request: bytes) -> bytes:
        """The certificate for a board's request, if it knows the token it was given; the token is then spent.

        The same request gets the same certificate again while that is in force: the line to the board may have broken
        before it had it, and nobody without the board's own key can use it.

        Args:
            proof: SHA-256 (hex) of token, request, token: it crosses a console that is logged, the token does not.

        Raises:
            SafetyRefusal: no token is open, it is another one, or it has ended.
        """
        path = self.folder / "tokens" / f"{name}.json"
        again = f"write a new one onto its card: hil firstboot {name}"
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=Token)
        except (OSError, ValueError) as error:
            given = self._given(name, request)
            if given:
                return given
            raise SafetyRefusal(f"board {name}: no enrolment token is open, or it was used before", again) from error
        if time.time() > kept.ends:
            raise SafetyRefusal(f"board {name}: its enrolment token ended on {_day(kept.ends)}", again)
        wanted = hashlib.sha256(kept.token.encode() + request + kept.token.encode()).hexdigest()
        if not hmac.compare_digest(wanted.encode(), proof.encode()):
            raise SafetyRefusal(f"board {name}: does not know the enrolment token that was given to it", again)
        certificate = self.sign(name, request)
        path.unlink()
        return certificate

    def _given(self, name: str, request: bytes) -> bytes:
        """The certificate in force that was given for the key of this very request; empty if there is none."""
        mine = self.valid(name)
        try:
            certificate = (self.folder / "boards" / f"{name}.pem").read_bytes()
            if mine is None or f"{x509.read_certificate(certificate).serial:x}" != mine.serial:
                return b""
            in_force = mine.days_left(time.time()) > 0
            return certificate if in_force and x509.same_key(certificate, request) else b""
        except (OSError, ConfigError):
            return b""

    def _note(self, name: str, certificate: bytes, addresses: tuple[str, ...]) -> Issued:
        read = x509.read_certificate(certificate)
        issued = Issued(name, f"{read.serial:x}", read.not_after.timestamp(), False, addresses)
        with self._changing():
            self._keep((*self._register.certificates, issued))
        return issued

    def _keep(self, rows: tuple[Issued, ...]) -> None:
        self._register = Register(self.bench, rows)
        write_whole(self.folder / "issued.json", msgspec.json.format(msgspec.json.encode(self._register)))

    def _revocations(self) -> None:
        serials = tuple(int(one.serial, 16) for one in self._register.certificates if one.revoked)
        listed = self._authority.revocations(serials, x509.CA_DAYS, self._after_the_last())
        for folder in (self.folder, *(self.folder / name for name in OWN)):
            x509.write_private(folder / x509.CRL_FILE, listed, 0o644)

    def _after_the_last(self) -> datetime:
        """Now, or a second after the list there is: of two lists of one second OpenSSL would go by the older."""
        now = datetime.now(timezone.utc)
        try:
            number = x509.revocation_number((self.folder / x509.CRL_FILE).read_bytes())
        except (OSError, ConfigError):
            return now
        return max(now, datetime.fromtimestamp(number + 1, timezone.utc))


def _taken(folder: Path) -> SafetyRefusal:
    if os.path.exists(folder / "issued.json"):
        return SafetyRefusal(
            f"{folder}: has an authority already; a new one would lock every enrolled board out",
            f"go on with it, or choose another folder; hil bench broker --identity {folder} says how its broker starts",
        )
    return SafetyRefusal(f"{folder}: is not empty, and nothing in it is overwritten", "choose another folder")


def _refused(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(f"{path}: cannot be made: {error.strerror}", "check space and mode there, and whose it is")


def _locked(path: Path) -> IO[bytes]:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb")
    except OSError as error:
        raise _refused(path, error) from error


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")
