"""What a checkpoint says of itself beside its weights: version, licence, source, tokenizer, measured importance."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from hil_config.durable_file import write_durably
from hil_config.errors import DataFileError
from hil_config.wire.manifest import SideFile

CARD_NAME = "card.json"
IMPORTANCE_NAME = "importance.json"
TOKENIZER_NAME = "tokenizer.json"


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`card.json` in the checkpoint folder; a checkpoint without one is version 1 of unknown licence and source."""

    version: int = 1
    license: str = ""
    source: str = ""
    tokenizer_sha256: str = ""


def read_card(checkpoint: Path) -> Card:
    """The card, with the hash of the tokenizer that lies beside it filled in."""
    path, tokenizer = checkpoint / CARD_NAME, checkpoint / TOKENIZER_NAME
    card = Card()
    if path.exists():
        try:
            card = msgspec.json.decode(path.read_bytes(), type=Card)
        except (OSError, ValueError) as error:
            raise DataFileError(
                f"{path}: {error}", 'wanted {"version": 1, "license": "...", "source": "..."}'
            ) from error
        if card.version < 1:
            raise DataFileError(f"{path}: version: got {card.version}, wanted at least 1", "count versions from 1")
    if tokenizer.exists():
        digest = hashlib.sha256(tokenizer.read_bytes()).hexdigest()
        card = msgspec.structs.replace(card, tokenizer_sha256=digest)
    return card


def side_files(checkpoint: Path, out: Path) -> tuple[SideFile, ...]:
    """Copy the measured importance into the model folder, if the checkpoint has one."""
    path = checkpoint / IMPORTANCE_NAME
    if not path.exists():
        return ()
    return (write_importance_file(out, path.read_bytes()),)


def write_importance_file(folder: Path, data: bytes) -> SideFile:
    """Write `importance.json` and say what it is."""
    write_durably(folder / IMPORTANCE_NAME, data)
    return SideFile(IMPORTANCE_NAME, "importance", hashlib.sha256(data).hexdigest(), len(data))
