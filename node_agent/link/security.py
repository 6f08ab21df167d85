"""What this node shows to its peers and what it asks of them: nothing in the clear, or TLS with the bench's names."""

from __future__ import annotations

import ssl
from typing import NamedTuple

from hil_config.tls import TlsFiles, client_context, server_context


class Security(NamedTuple):
    """Contexts for accepting and for dialling peers; both None in the clear."""

    listen: ssl.SSLContext | None = None
    dial: ssl.SSLContext | None = None


CLEAR = Security()


def secure(tls: TlsFiles | None) -> Security:
    """From the agent's configuration; an error names the file that does not serve."""
    return CLEAR if tls is None else Security(server_context(tls), client_context(tls))
