"""Public keys that go onto a card. A file that holds a private one by mistake stays where it is."""

from __future__ import annotations

import re
from pathlib import Path

from hil_config.errors import ArtefactError, ConfigError
from hil_config.wire.manifest import MANIFEST_NAME, decode_manifest, read_manifest_bytes
from hil_config.wire.minisign import SIGNATURE_SUFFIX, parse_public_key, verify

_SSH = re.compile(r"(?:\S.*\s)?(?:ssh-|ecdsa-|sk-)\S+ AAAA[0-9A-Za-z+/]+=*(?:\s.*)?")


def public_keys(path: Path) -> str:
    """The lines of an `authorized_keys` or `.pub` file.

    Raises:
        ConfigError: it cannot be read, or a line is no public SSH key.
    """
    text = _read(path)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if "PRIVATE KEY" in text:
        raise ConfigError(f"{path}: is a private key, which never goes onto a card", f"--ssh-key {path}.pub")
    for number, line in enumerate(lines, 1):
        if not _SSH.fullmatch(line):
            raise ConfigError(f"{path}: key {number} is no public SSH key", "the .pub file that ssh-keygen wrote")
    if not lines:
        raise ConfigError(f"{path}: no public SSH key in it", "the .pub file that ssh-keygen wrote")
    return "".join(f"{line}\n" for line in lines)


def trust_key(path: Path) -> str:
    """The line of a model signer's `.pub` file that an agent is told.

    Raises:
        ConfigError: it cannot be read. ArtefactError: it holds no such key.
    """
    text = _read(path)
    parse_public_key(text, str(path))
    return text.split()[-1]


def check_signed(folder: Path, keys: tuple[str, ...]) -> None:
    """Whether boards that trust `keys` take the model in a folder.

    Raises:
        ArtefactError: there is none, or nobody of those has signed it.
    """
    data, where = read_manifest_bytes(folder), folder / MANIFEST_NAME
    decode_manifest(data, where)
    if keys:
        trusted, place = tuple(parse_public_key(key, "--trust") for key in keys), f"{where}{SIGNATURE_SUFFIX}"
        if not Path(place).exists():
            raise ArtefactError(f"{folder}: nobody has signed it", f"hil models sign {folder} --key FILE")
        verify(trusted, data, _read(Path(place)), str(where))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", "check its path and mode") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text", "wanted a public key, a .pub file") from error
