"""Put bytes in a file so that after a crash the old or the new ones are there, never half of them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from hil_config.errors import EnvironmentFault


def write_durably(path: Path, data: bytes, mode: int | None = None) -> None:
    """Temporary name beside it, fsync, rename, fsync of the folder; an attempt that fails leaves nothing.

    Args:
        mode: exactly these permissions, from the first byte on; None: 0644 less the process's umask.

    Raises:
        OSError: as the system gives it; whoever calls knows what the file means to a person.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    part.unlink(missing_ok=True)
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644 if mode is None else mode), "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_result(path: Path, data: bytes) -> None:
    """What a person asked a command for, whole or not at all; its folder is made where it is missing.

    Raises:
        EnvironmentFault: it cannot be written.
    """
    hint = "check free space and permissions, and that it names a file"
    if not path.name or path.is_dir():
        raise EnvironmentFault(f"{path}: cannot be written: it is a folder", hint)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, data)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror or error}", hint) from error
