"""Who writes a run folder: one process at a time, and the next one only after it is gone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hil_config.errors import EnvironmentFault

NAME = "controller.lock"


class RunLock:
    """Held until `release` or the end of the process, however it ends: the operating system lets go of it.

    Raises:
        EnvironmentFault: another process holds it (its id is named), or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise EnvironmentFault(f"{path}: {error.strerror}", "check the folder and its permissions") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise EnvironmentFault(
                f"{folder}: process {holder} is running this run", "wait for its end, or stop it first"
            ) from error
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._file)


def is_held(folder: Path) -> bool:
    """Whether some process writes the run in `folder` now."""
    try:
        file = os.open(folder / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
