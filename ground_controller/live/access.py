"""Who may look: loopback without asking, everyone else with a token; and no other site's page through a browser.

A page of another site can make a browser here send requests to us: its Origin gives it away. With DNS rebinding its
own name leads to this machine, and Origin and Host agree: so Host must be an address, which nobody can rebind, or a
name of this machine. Addresses over the network need the token as well, compared in constant time.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from hil_config.errors import SafetyRefusal, UsageError

LEAST_TOKEN = 16
"""Characters."""


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """The token in a file that nobody but its owner can read.

    Raises:
        SafetyRefusal: others may read or write it.
        UsageError: it cannot be read, or holds too little.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(4096).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", "give a file that holds the token") from error
    if mode & 0o077:
        raise SafetyRefusal(f"{path}: mode {mode:04o} lets others read the token, wanted 0600", f"chmod 600 {path}")
    if len(text) < LEAST_TOKEN or not text.isprintable():
        raise UsageError(
            f"{path}: holds {len(text)} characters, wanted one line of {LEAST_TOKEN} or more",
            f"(umask 077; openssl rand -hex 24 > {path})",
        )
    return text


def new_token() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Access:
    """`token`: what a page must show; empty on loopback. `names`: of this machine."""

    loopback: bool
    token: str
    names: frozenset[str]

    @classmethod
    def of(cls, host: str, token: str) -> Access:
        """For an address to listen on. A token is wanted wherever it is not loopback."""
        if not is_loopback(host) and not token:
            raise SafetyRefusal(f"{host} can be reached by others and no token is set", "give --token-file FILE")
        names = {socket.gethostname().lower(), socket.getfqdn().lower(), host.lower()}
        return cls(is_loopback(host), token, frozenset(names))

    def knows_host(self, header: str) -> bool:
        """Whether a request's Host names this machine in a way that nobody can rebind."""
        name = _name_of(header)
        if name == "localhost":
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return not self.loopback and name in self.names
        return address.is_loopback or not self.loopback

    def knows_origin(self, origin: str | None, host: str) -> bool:
        """Whether a page that opens a connection came from here; programs that are no browser send no Origin."""
        return origin is None or origin in {f"http://{host}", f"https://{host}"}

    def knows_token(self, given: str) -> bool:
        return not self.token or hmac.compare_digest(given.encode(), self.token.encode())


def _name_of(header: str) -> str:
    """The host of a Host header, without its port and an address' brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
