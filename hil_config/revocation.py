"""The bench's revocation list, and going by a newer one without a restart.

OpenSSL keeps every list that a context was given, and of two by one authority goes by the one issued later
(`get_crl_sk` in crypto/x509/x509_vfy.c, to the second); a list never takes back what an earlier one revoked.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from hil_config.errors import ConfigError
from hil_config.tls import TlsFiles

_HINT = "hil provision brings the bench's list"


class RevocationList(NamedTuple):
    """`number` rises with every list of an authority; `serials` of certificates that nobody shall believe."""

    number: int
    serials: frozenset[int]


NONE = RevocationList(0, frozenset())


def read_revocations(tls: TlsFiles) -> RevocationList:
    """The list that `tls` names, signed by its authority; `NONE` where it names none.

    Raises:
        ConfigError: it cannot be read, or is another authority's.
    """
    if not tls.crl:
        return NONE
    try:
        listed = x509.load_pem_x509_crl(Path(tls.crl).read_bytes())
        authority = x509.load_pem_x509_certificate(Path(tls.ca).read_bytes())
        ours = listed.issuer == authority.subject and listed.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # of the kinds that sign
        number = listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except OSError as error:
        raise ConfigError(f"{tls.crl}: cannot be read: {error.strerror}", _HINT) from error
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.InvalidVersion) as error:
        raise ConfigError(f"{tls.crl}: not a revocation list in PEM: {error}", _HINT) from error
    if not ours:
        raise ConfigError(f"{tls.crl}: not from this bench's authority", _HINT)
    return RevocationList(number, frozenset(entry.serial_number for entry in listed))


class Revocations:
    """What a process that goes on running believes. Args: `contexts` that check certificates."""

    def __init__(self, tls: TlsFiles | None, contexts: tuple[ssl.SSLContext, ...]) -> None:
        self._tls, self._contexts = tls, contexts
        self._seen = self._mark()
        self.current = NONE
        if tls is not None and tls.crl:
            self.current = read_revocations(tls)
            self._teach(tls.crl)  # once more: the file may have been replaced since they were made

    def _mark(self) -> tuple[int, int, int]:
        """Changes when the file is replaced or written."""
        try:
            found = Path(self._tls.crl).stat() if self._tls and self._tls.crl else None
        except OSError:
            found = None
        return (0, 0, 0) if found is None else (found.st_ino, found.st_mtime_ns, found.st_size)

    def reread(self) -> bool:
        """Whether a newer list was taken up: the contexts refuse what it names from the next handshake on.

        Raises:
            ConfigError: once for each change of the file: it does not serve, or is older; what held still holds.
        """
        mark = self._mark()
        if self._tls is None or mark == self._seen:
            return False
        self._seen = mark
        found = read_revocations(self._tls)
        if found.number < self.current.number:
            raise ConfigError(
                f"{self._tls.crl}: list {found.number} is older than {self.current.number}, which was taken up", _HINT
            )
        if found == self.current:
            return False
        self._teach(self._tls.crl)
        self.current = found
        return True

    def _teach(self, path: str) -> None:
        for context in self._contexts:
            try:
                context.load_verify_locations(path)
            except (ssl.SSLError, OSError) as error:
                raise ConfigError(f"{path}: not usable for TLS: {error}", _HINT) from error
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
