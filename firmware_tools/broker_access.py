"""Who may do what at a bench's MQTT broker: its TLS listener and its access list, rendered for Mosquitto.

The name in a client's certificate is its user name. A board writes and reads below its own name only, the ground
everybody's topics in its own direction, a monitor reads. Rendered from the table of topics, so that a new topic is
covered by being in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from firmware_tools.identity import CA_FILE, CERTIFICATE_FILE, CRL_FILE, GROUND, KEY_FILE, MONITOR
from hil_config.errors import ConfigError, UsageError
from hil_config.wire.topics import ROOT, TABLE, address


class Access(NamedTuple):
    """`identity`: folder with the broker's certificate.pem, key.pem, ca.pem, and crl.pem where boards were revoked.
    `host`: the address it listens on."""

    bench: str
    identity: Path
    host: str = "127.0.0.1"


def render_listener(port: int, access: Access, acl: Path) -> str:
    """The lines of mosquitto.conf for mutual TLS 1.3; ConfigError if a file of the identity is missing."""
    home = access.identity.absolute()
    for text in (str(home), access.host):
        if not text.isprintable() or text.strip() != text or not text:
            raise UsageError(f"{text!r}: cannot stand in the broker's configuration", "choose another name")
    files = {"cafile": CA_FILE, "certfile": CERTIFICATE_FILE, "keyfile": KEY_FILE}
    for name in files.values():
        if not (home / name).is_file():
            raise ConfigError(f"{home / name}: the broker has no such file", "make its identity: hil bench init")
    lines = [f"listener {port} {access.host}", *(f"{option} {home / name}" for option, name in files.items())]
    if (home / CRL_FILE).is_file():
        lines.append(f"crlfile {home / CRL_FILE}")
    lines += [
        "tls_version tlsv1.3", "require_certificate true", "use_identity_as_username true", "allow_anonymous false",
        f"acl_file {acl}",
    ]  # fmt: skip
    return "\n".join(lines)


def render_acl(bench: str) -> str:
    """The access list. `%u` is the user, which is the name in the certificate."""
    lines = ["# Written by hil from the table of topics.", f"user {GROUND}"]
    for row in TABLE:
        own = "readwrite" if row.retained else "write"  # what the ground retains is for the next controller
        lines.append(f"topic {'read' if row.writer == 'node' else own} {address(bench, '+', row)}")
    lines += ["", f"user {MONITOR}", f"topic read {ROOT}/{bench}/#", ""]
    for row in TABLE:
        right = "write" if row.writer == "node" else "read"
        lines.append(f"pattern {right} {address(bench, '+', row).replace('/+/', '/%u/', 1)}")
    return "\n".join(lines) + "\n"
