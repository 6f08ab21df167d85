"""What this node shows to its peers and what it asks of them: nothing in the clear, or TLS and seals."""

from __future__ import annotations

import ssl
import time
from typing import NamedTuple

from hil_config.seal import KeyRing
from hil_config.tls import TlsFiles, check_own_certificate, client_context, server_context
from hil_config.wire.messages import NodeEvent

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
    return CLEAR if tls is None else Security(server_context(tls), client_context(tls), KeyRing(node, boot_id, tls))


def certificate_events(tls: TlsFiles | None) -> list[NodeEvent]:
    """`CertificateEndsSoon` with the days that are left, if they are few."""
    days = float(WARN_DAYS) if tls is None else check_own_certificate(tls)
    if days >= WARN_DAYS:
        return []
    return [NodeEvent("CertificateEndsSoon", time.monotonic_ns(), {"days_left": round(days, 2)})]
