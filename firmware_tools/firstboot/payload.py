"""The files of a first boot: who the board is, whom it believes, and the agent it runs."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import msgspec

from hil_config.errors import UsageError

FOLDER = "hil"
"""On the boot partition."""

SCRIPT = Path(__file__).with_name("hil-firstboot.sh")
"""Goes along, for images that do not bring it: `sh hil/hil-firstboot.sh BOOT`."""

HOME = "/etc/hil/identity"


class Place(msgspec.Struct, frozen=True):
    """Where the board finds broker and where others find it, as the board itself sees addresses."""

    broker_host: str
    broker_port: int
    data_host: str
    data_port: int


class Settings(msgspec.Struct, frozen=True):
    """One board's first boot. `profile`: what its agent is told of boards of its kind (`BoardProfile.agent_fields`).
    `password_hash` is a crypt(3) string; an empty string or 0 leaves a thing out."""

    node: str
    bench: str
    place: Place
    profile: dict[str, Any]
    ca: bytes
    token: str
    user: str = "hil"
    password_hash: str = ""
    authorized_keys: str = ""
    trust_keys: tuple[str, ...] = ()
    command_key: bytes = b""
    keepalive_s: int = 0
    crl: bytes = b""


def agent_config(settings: Settings) -> dict[str, Any]:
    """The agent's configuration on the board."""
    place = settings.place
    return {
        "node": settings.node, "bench": settings.bench,
        "broker_host": place.broker_host, "broker_port": place.broker_port,
        "data_host": place.data_host, "data_port": place.data_port,
        "shards": "/var/lib/hil/shards", "spool": "/var/lib/hil/spool",
        **settings.profile,
        "tls": {"ca": f"{HOME}/ca.pem", "certificate": f"{HOME}/certificate.pem", "key": f"{HOME}/key.pem"}
        | ({"crl": f"{HOME}/crl.pem"} if settings.crl else {}),
        "command_key": f"{HOME}/command.pub.pem",
        "trust": {"keys": list(settings.trust_keys), "memory": "/var/lib/hil/versions"},
        **({"keepalive_s": settings.keepalive_s} if settings.keepalive_s else {}),
    }  # fmt: skip


def payload(
    settings: Settings, agent: bytes, shards: bytes = b"", more: dict[str, bytes] | None = None
) -> dict[str, bytes]:
    """Name -> content of every file in `FOLDER`, with their checksums; `more` joins them.

    Raises:
        UsageError: a value cannot stand in a file of lines.
    """
    values = {
        "NODE": settings.node, "BENCH": settings.bench, "USER": settings.user, "EPOCH": str(int(time.time())),
    }  # fmt: skip
    for name, value in values.items():
        if not value.isprintable() or "'" in value or "=" in value:
            raise UsageError(f"first boot: {name} {value!r} has characters that do not belong there", "choose another")
    files = {
        "firstboot.env": "".join(f"{name}={value}\n" for name, value in values.items()).encode(),
        "agent.json": json.dumps(agent_config(settings), indent=2).encode() + b"\n",
        "ca.pem": settings.ca,
        "agent.tar": agent,
        SCRIPT.name: SCRIPT.read_bytes(),
        **(more or {}),
    }
    optional = {
        "token": settings.token.encode(), "password.hash": settings.password_hash.encode(),
        "authorized_keys": settings.authorized_keys.encode(), "shards.tar": shards,
        "command.pub.pem": settings.command_key, "crl.pem": settings.crl,
    }  # fmt: skip
    files.update({name: data for name, data in optional.items() if data})
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return {**files, "SHA256SUMS": sums.encode()}
