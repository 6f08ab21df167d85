"""The few file operations of the spool, in one place so that a test can make the n-th of them fail."""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """Plain files. Every method raises OSError as the system gives it."""

    def create(self, path: Path) -> int:
        """A new file, open for writing and reading back."""
        return os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def write(self, fd: int, data: bytes) -> None:
        """All of `data`; a short write is an error (the disk is full)."""
        done = os.write(fd, data)
        if done != len(data):
            raise OSError(28, "No space left on device")

    def read(self, fd: int, count: int, offset: int) -> bytes:
        return os.pread(fd, count, offset)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def close(self, fd: int) -> None:
        os.close(fd)
