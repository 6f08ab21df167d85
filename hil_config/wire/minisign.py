"""Ed25519 signatures in the file format of minisign (https://jedisct1.github.io/minisign/).

A public key is `Ed | key id [8] | key [32]` in base64, in a file under a line of comment or alone. A signature file is

    untrusted comment: <anything>
    base64(algorithm [2] | key id [8] | signature [64])
    trusted comment: <text that is signed too>
    base64(signature [64] of signature | trusted comment)

Algorithm `ED` signs the BLAKE2b-512 of the message (minisign's default), `Ed` the message itself. What is written
here `minisign -V` accepts, and the other way round.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode, b64encode
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hil_config.errors import ArtefactError

SIGNATURE_SUFFIX = ".minisig"
MAX_SIGNATURE_BYTES = 4096
_PREHASHED, _PLAIN = b"ED", b"Ed"
_TRUSTED = "trusted comment: "


class PublicKey(NamedTuple):
    """`id` [8] names the key (little-endian, as minisign prints it), `key` [32] is Ed25519's."""

    id: bytes
    key: bytes

    @property
    def name(self) -> str:
        return self.id[::-1].hex().upper()

    @property
    def text(self) -> str:
        """The base64 line."""
        return b64encode(_PLAIN + self.id + self.key).decode()


class SecretKey(NamedTuple):
    """`seed` [32] is Ed25519's private key; `id` [8] is shared with the public key."""

    id: bytes
    seed: bytes

    def __repr__(self) -> str:
        """Without the seed: a key must not reach a log through a traceback."""
        return f"SecretKey({self.public.name})"

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.id, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())


def parse_public_key(text: str, where: str) -> PublicKey:
    """From a key file's text or its base64 line; ArtefactError says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 2 and lines[0].startswith("untrusted comment:"):
        lines = lines[1:]
    raw = _decode(lines[0], 42) if len(lines) == 1 else None
    if raw is None or raw[:2] != _PLAIN:
        raise ArtefactError(f"{where}: not a minisign public key", "make a pair with: hil models keygen")
    return PublicKey(raw[2:10], raw[10:])


def sign(secret: SecretKey, message: bytes, trusted_comment: str) -> str:
    """The text of a signature file."""
    private = Ed25519PrivateKey.from_private_bytes(secret.seed)
    signature = private.sign(hashlib.blake2b(message).digest())
    overall = private.sign(signature + trusted_comment.encode())
    head = b64encode(_PREHASHED + secret.id + signature).decode()
    return (
        f"untrusted comment: signature from key {secret.public.name}\n{head}\n"
        f"{_TRUSTED}{trusted_comment}\n{b64encode(overall).decode()}\n"
    )


def verify(keys: tuple[PublicKey, ...], message: bytes, signature: str, where: str) -> str:
    """The trusted comment, if one of `keys` signed `message`; else ArtefactError naming `where`."""
    lines = signature.removesuffix("\n").split("\n")
    head = _decode(lines[1], 74) if len(lines) == 4 else None
    overall = _decode(lines[3], 64) if len(lines) == 4 else None
    if head is None or overall is None or head[:2] not in {_PREHASHED, _PLAIN} or not lines[2].startswith(_TRUSTED):
        raise ArtefactError(f"{where}: its signature is not in minisign's format", _HINT)
    known = next((key for key in keys if key.id == head[2:10]), None)
    if known is None:
        trusted = ", ".join(key.name for key in keys) or "none"
        raise ArtefactError(f"{where}: signed by key {head[2:10][::-1].hex().upper()}, trusted is {trusted}", _HINT)
    comment = lines[2][len(_TRUSTED) :]
    public = Ed25519PublicKey.from_public_bytes(known.key)
    try:
        public.verify(head[10:], hashlib.blake2b(message).digest() if head[:2] == _PREHASHED else message)
        public.verify(overall, head[10:] + comment.encode())
    except InvalidSignature as error:
        raise ArtefactError(f"{where}: its signature by key {known.name} is wrong: it was changed", _HINT) from error
    return comment


def _decode(line: str, size: int) -> bytes | None:
    try:
        raw = b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        return None
    # Base64 leaves spare bits in its last letter: only one spelling is accepted.
    return raw if len(raw) == size and b64encode(raw).decode() == line else None


_HINT = "sign it with a key the node trusts: hil models sign FOLDER --key FILE"
