"""Which manifest a node believes: signed by a trusted key, and not older than one it has served."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from hil_config.durable_file import write_durably
from hil_config.errors import ArtefactError, EnvironmentFault
from hil_config.wire.manifest import MANIFEST_NAME, Manifest, decode_manifest, read_manifest_bytes
from hil_config.wire.minisign import MAX_SIGNATURE_BYTES, SIGNATURE_SUFFIX, PublicKey, parse_public_key, verify


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent is told about models.

    `keys`: minisign public keys (the base64 line). Empty means that signatures are not asked for, which only an
    agent that talks on loopback alone may be told. `signature`: where the manifest's signature is; empty: beside
    it. `memory`: folder in which the highest version of each model is remembered; empty: it is not.
    """

    keys: tuple[str, ...] = ()
    signature: str = ""
    memory: str = ""

    def memory_folder(self) -> Path:
        return Path(self.memory)

    def public_keys(self) -> tuple[PublicKey, ...]:
        return tuple(parse_public_key(key, "trusted key in the agent's configuration") for key in self.keys)


NO_TRUST = Trust()


def trusted_manifest(folder: Path, trust: Trust) -> Manifest:
    """The manifest of `folder`, its signature and version checked before anything else of it is looked at."""
    data = read_manifest_bytes(folder)
    path = folder / MANIFEST_NAME
    if trust.keys:
        place = Path(trust.signature) if trust.signature else path.with_name(path.name + SIGNATURE_SUFFIX)
        verify(trust.public_keys(), data, read_signature(place), str(path))
    manifest = decode_manifest(data, path)
    if trust.memory:
        VersionMemory(trust.memory_folder()).admit(manifest.model.name, manifest.model_version, str(path))
    return manifest


def read_signature(path: Path) -> str:
    """A signature file's text."""
    hint = "sign it with a key the node trusts: hil models sign FOLDER --key FILE"
    try:
        if path.stat().st_size > MAX_SIGNATURE_BYTES:
            raise ArtefactError(f"{path}: {path.stat().st_size} bytes; a signature has less", hint)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArtefactError(f"{path}: no signature: {error.strerror}", hint) from error
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path}: not a signature", hint) from error


class _Highest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    version: int


class VersionMemory:
    """The highest version of each thing this node has served; survives a crash at any point."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def highest(self, name: str) -> int | None:
        """None for a name never seen. A file that cannot be read refuses: forgetting would allow a rollback."""
        path = self._path(name)
        try:
            known = msgspec.json.decode(path.read_bytes(), type=_Highest)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ArtefactError(
                f"{path}: the versions served before cannot be read: {error}",
                "if you know that no newer version was served, remove that file by hand",
            ) from error
        return known.version

    def admit(self, name: str, version: int, where: str) -> None:
        """Remember `version`; ArtefactError if a higher one was served before."""
        highest = self.highest(name)
        if highest is not None and version < highest:
            raise ArtefactError(
                f"{where}: {name} version {version}, but version {highest} was served here: rollback refused",
                f"publish it as version {highest + 1}: hil models sign FOLDER --key FILE --model-version {highest + 1}",
            )
        if version != highest:
            self._write(self._path(name), msgspec.json.encode(_Highest(name, version)))

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"

    def _write(self, path: Path, data: bytes) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_durably(path, data)
        except OSError as error:
            raise EnvironmentFault(
                f"{path}: cannot be written: {error.strerror}", "check the disk and the folder's permissions"
            ) from error
