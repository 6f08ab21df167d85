"""What this node shows to its peers and what it asks of them: nothing in the clear, or TLS and seals."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import NamedTuple

from hil_config.errors import ConfigError, HilError
from hil_config.revocation import Revocations
from hil_config.seal import KeyRing
from hil_config.tls import TlsFiles, check_own_certificate, client_context, own_name, server_context
from hil_config.wire.messages import NodeEvent

DAY_S = 86_400.0
WARN_DAYS = 30
"""A certificate that lasts for less is worth an event."""


class Security(NamedTuple):
    """Contexts for accepting and for dialling peers, and the keys that seal frames; all None in the clear."""

    listen: ssl.SSLContext | None = None
    dial: ssl.SSLContext | None = None
    ring: KeyRing | None = None

    @property
    def offer(self) -> bytes:
        """What peers need to seal for us."""
        return b"" if self.ring is None else self.ring.offer


CLEAR = Security()


def secure(tls: TlsFiles | None, node: str, boot_id: str) -> Security:
    """From the agent's configuration; an error names the file that does not serve."""
    if tls is None:
        return CLEAR
    found = Security(server_context(tls), client_context(tls), KeyRing(node, boot_id, tls))
    if (name := own_name(tls)) != node:  # broker and peers would take it for that other node, and refuse what it says
        raise ConfigError(f"{tls.certificate} is of {name!r}, node is {node!r}", "mend node, or enrol again")
    return found


class RevocationWatch:
    """Goes by a newer revocation list as soon as it lies there. Args: `more`, contexts beside those of `security`;
    `cut` ends connections to the holders of these certificates (serial numbers)."""

    def __init__(
        self,
        tls: TlsFiles | None,
        security: Security,
        more: ssl.SSLContext | None,
        cut: Callable[[frozenset[int]], None],
    ) -> None:
        contexts = (security.listen, security.dial, more)
        self._list = Revocations(tls, tuple(one for one in contexts if one is not None))
        self._ring, self._cut = security.ring, cut

    def look(self) -> tuple[NodeEvent, ...]:
        """`RevocationsRead` with the list's number and length, `RevocationsRefused` with the reason, or nothing."""
        try:
            if not self._list.reread():
                return ()
        except ConfigError as error:
            return (NodeEvent("RevocationsRefused", time.monotonic_ns(), {"reason": error.message}),)
        now = self._list.current
        if self._ring is not None:
            self._ring.revoke(now.serials)
        self._cut(now.serials)
        return (NodeEvent("RevocationsRead", time.monotonic_ns(), {"number": now.number, "revoked": len(now.serials)}),)


class CertificateWatch:
    """Looks at our own certificate once a day: an agent may run for as long as that lasts."""

    def __init__(self, tls: TlsFiles | None) -> None:
        self._tls, self._due_s = tls, 0.0

    def look(self, now_s: float) -> list[NodeEvent]:
        """Args: `now_s`, monotonic. `CertificateEndsSoon`, `CertificateEnded` with the reason, or nothing."""
        if now_s < self._due_s:
            return []
        self._due_s = now_s + DAY_S
        try:
            return certificate_events(self._tls)
        except HilError as error:
            return [NodeEvent("CertificateEnded", time.monotonic_ns(), {"reason": error.message})]


def certificate_events(tls: TlsFiles | None) -> list[NodeEvent]:
    """`CertificateEndsSoon` with the days that are left, if they are few."""
    days = float(WARN_DAYS) if tls is None else check_own_certificate(tls)
    if days >= WARN_DAYS:
        return []
    return [NodeEvent("CertificateEndsSoon", time.monotonic_ns(), {"days_left": round(days, 2)})]
