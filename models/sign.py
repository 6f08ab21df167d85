"""Keys and signatures on the ground: make a pair, sign a model folder."""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode, b64encode
from pathlib import Path

import msgspec

from hil_config.durable_file import write_durably
from hil_config.errors import ArtefactError, EnvironmentFault, UsageError
from hil_config.wire.manifest import (
    MANIFEST_NAME,
    Manifest,
    decode_manifest,
    encode_manifest,
    read_manifest,
    read_manifest_bytes,
)
from hil_config.wire.minisign import (
    MAX_SIGNATURE_BYTES,
    SIGNATURE_SUFFIX,
    PublicKey,
    SecretKey,
    parse_public_key,
    sign,
    verify,
)

_SECRET_BYTES = 158
_HINT = "make a pair with: hil models keygen --out NAME; keys with a passphrase are not read, sign those with minisign"


def new_key() -> SecretKey:
    """A fresh pair; the identifier is random, as minisign's is."""
    return SecretKey(os.urandom(8), os.urandom(32))


def write_keys(secret: SecretKey, stem: Path) -> tuple[Path, Path]:
    """`<stem>.key` (mode 600, as `minisign -G -W` writes it, without passphrase) and `<stem>.pub`."""
    if stem.name in ("", ".."):
        raise UsageError(f"{stem}: wanted a name for the pair", "such as --out keys/lab")
    key, public = stem.with_name(stem.name + ".key"), stem.with_name(stem.name + ".pub")
    for path in (key, public):
        if path.exists():
            raise UsageError(f"{path}: exists; a key is never overwritten", "choose another --out")
    pair = secret.seed + secret.public.key
    checksum = hashlib.blake2b(b"Ed" + secret.id + pair, digest_size=32).digest()
    raw = b"Ed" + b"\0\0" + b"B2" + bytes(48) + secret.id + pair + checksum
    text = f"untrusted comment: hil secret key {secret.public.name}, without passphrase\n{b64encode(raw).decode()}\n"
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        write_durably(key, text.encode(), mode=0o600)
        write_durably(public, public_text(secret.public).encode())
    except OSError as error:
        raise EnvironmentFault(f"{error.filename}: cannot be written: {error.strerror}", "check the folder") from error
    return key, public


def public_text(public: PublicKey) -> str:
    """The public key file."""
    return f"untrusted comment: minisign public key {public.name}\n{public.text}\n"


def read_secret_key(path: Path) -> SecretKey:
    """A secret key file without passphrase; ArtefactError where it is none. Its contents are never repeated."""
    raw = b""
    try:
        raw = b64decode(path.read_text().splitlines()[1], validate=True)
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read: {error.strerror}", _HINT) from error
    except (ValueError, IndexError):
        pass  # falls through to the refusal
    if len(raw) != _SECRET_BYTES or raw[:6] != b"Ed\0\0B2":
        raise ArtefactError(f"{path}: not a minisign secret key without passphrase", _HINT)
    identity, pair, checksum = raw[54:62], raw[62:126], raw[126:]
    secret = SecretKey(identity, pair[:32])
    if checksum != hashlib.blake2b(b"Ed" + identity + pair, digest_size=32).digest():
        raise ArtefactError(f"{path}: damaged: its checksum is wrong", _HINT)
    if secret.public.key != pair[32:]:
        raise ArtefactError(f"{path}: damaged: its two halves do not belong together", _HINT)
    return secret


def read_public_key(path: Path) -> PublicKey:
    """A public key file."""
    try:
        return parse_public_key(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path}: cannot be read: {error}", _HINT) from error


def verify_folder(folder: Path, public_key: Path) -> Manifest:
    """The manifest of `folder`, if `manifest.json.minisig` is its signature by that key; else ArtefactError."""
    path = folder / MANIFEST_NAME
    signature = path.with_name(path.name + SIGNATURE_SUFFIX)
    data = read_manifest_bytes(folder)
    try:
        text = signature.read_bytes()[:MAX_SIGNATURE_BYTES].decode("utf-8", "replace")
    except OSError as error:
        hint = f"sign it: hil models sign {folder} --key FILE"
        raise ArtefactError(f"{signature}: no signature: {error.strerror}", hint) from error
    verify((read_public_key(public_key),), data, text, str(path))
    return decode_manifest(data, path)


def signature_of(manifest: Manifest, secret: SecretKey) -> str:
    """The signature file of a manifest as `encode_manifest` writes it."""
    comment = f"model {manifest.model.name} version {manifest.model_version}"
    return sign(secret, encode_manifest(manifest), comment)


def sign_folder(folder: Path, secret: SecretKey, model_version: int | None = None) -> Manifest:
    """Write `manifest.json.minisig`; with `model_version` the manifest takes that version first.

    A version below the manifest's own is refused: nodes would refuse it later.
    """
    manifest = read_manifest(folder)
    path = folder / MANIFEST_NAME
    signature = path.with_name(path.name + SIGNATURE_SUFFIX)
    if model_version is not None:
        if model_version < manifest.model_version:
            raise UsageError(
                f"{path}: has version {manifest.model_version}, wanted is {model_version}: versions only rise",
                f"use {manifest.model_version + 1} or more",
            )
        manifest = msgspec.structs.replace(manifest, model_version=model_version)
    try:
        signature.unlink(missing_ok=True)  # a crash in between leaves an unsigned folder, never a wrong signature
        write_durably(path, encode_manifest(manifest))
        write_durably(signature, signature_of(manifest, secret).encode())
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot be written: {error.strerror}", "check the folder") from error
    return manifest
