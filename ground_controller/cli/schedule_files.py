"""Files and folders that `hil schedule` writes: whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from hil_config.durable_file import write_durably
from hil_config.errors import UsageError


def write_file(out: Path, text: str) -> None:
    """Write a file whole or not at all."""
    try:
        write_durably(out, text.encode())
    except OSError as error:
        raise UsageError(
            f"{out}: cannot be written: {error.strerror}", "give a path in a folder that exists"
        ) from error


def write_folder(out: Path, files: dict[str, str]) -> None:
    """Write a folder that must not be there yet, or be empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: is there already", "give a folder that does not exist yet")
    part = out.with_name(out.name + ".part")
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{part}: cannot be made: {error.strerror}", "move it away, or give another path") from error
    try:
        for name, text in files.items():
            (part / name).parent.mkdir(exist_ok=True)
            write_file(part / name, text)
        if out.exists():
            out.rmdir()
        part.replace(out)
    except OSError as error:
        raise UsageError(
            f"{out}: cannot be written: {error.strerror}", "give a path in a folder that exists"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)  # what a failure left: the next attempt would stumble over it
