"""What was measured of a run's boards beforehand: records of `hil bench characterise` that the bench file names."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from hil_config.errors import ConfigError
from hil_config.schema.bench import Bench

KEY = "characterisation"
"""In the journal's meta: JSON of `records_of`."""


def records_of(bench: Bench) -> list[dict[str, Any]]:
    """One for each board that has one: its name, the file's name and SHA-256 (hex), and the record itself.

    Raises:
        ConfigError: a file that cannot be read, is no such record, or is another board's.
    """
    return [_record(board.name, Path(board.characterisation)) for board in bench.boards if board.characterisation]


def _record(name: str, path: Path) -> dict[str, Any]:
    hint = f"hil bench characterise {name}, or mend `characterisation` in the bench file"
    try:
        raw = path.read_bytes()
        found = msgspec.json.decode(raw, type=dict[str, Any])
    except OSError as error:
        raise ConfigError(f"board {name}: {path}: {error.strerror}", hint) from error
    except ValueError as error:
        raise ConfigError(f"board {name}: {path}: {error}", hint) from error
    if found.get("format") != "hil-characterisation":
        raise ConfigError(f"board {name}: {path} is no record of a characterisation", hint)
    if found.get("board") != name:
        raise ConfigError(f"board {name}: {path} is the record of board {found.get('board')}", hint)
    return {"board": name, "file": path.name, "sha256": hashlib.sha256(raw).hexdigest(), "record": found}
