"""What this node shows to its peers and what it asks of them: nothing in the clear, or TLS and seals."""

from __future__ import annotations

import ssl
from typing import NamedTuple

from hil_config.seal import KeyRing
from hil_config.tls import TlsFiles, client_context, server_context


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
