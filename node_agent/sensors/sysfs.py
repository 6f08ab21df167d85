"""Reading the kernel's one-value text files, with errors that name the file."""

from __future__ import annotations

import errno
from pathlib import Path

from hil_config.errors import HardwareError

_REASONS = {errno.EACCES: "permission denied", errno.EPERM: "permission denied", errno.ENOENT: "no such file"}
MOST_BYTES = 4096
"""An attribute is at most one page (Documentation/filesystems/sysfs.rst)."""


def read_text(path: Path) -> str:
    """The file without surrounding white space; HardwareError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode("utf-8", "replace").strip()
    except OSError as error:
        raise HardwareError(f"{path}: {_REASONS.get(error.errno or 0, error.strerror)}") from error


def read_integer(path: Path, base: int = 10) -> int:
    """The file's one integer; HardwareError with what stands there instead."""
    text = read_text(path)
    try:
        return int(text, base)
    except ValueError as error:
        raise HardwareError(f"{path}: found {text[:40]!r}, wanted an integer") from error
