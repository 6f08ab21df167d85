"""What the tools remember about a bench, in a folder `.hil` beside its file. Files are written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from hil_config.durable_file import write_durably
from hil_config.errors import EnvironmentFault, SafetyRefusal

NAME = ".hil"
_T = TypeVar("_T")


def utc_now() -> str:
    """ISO 8601 to the second, UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class State:
    """Args: `bench_file`, whose folder it lies in."""

    def __init__(self, bench_file: Path) -> None:
        self.folder = bench_file.absolute().parent / NAME

    def place(self, kind: str, name: str, suffix: str = ".json") -> Path:
        """Where one thing is kept, if it is; for whoever only looks."""
        return self.folder / kind / f"{name}{suffix}"

    def path(self, kind: str, name: str, suffix: str = ".json") -> Path:
        """Where one thing is kept; its folder exists afterwards, readable by its owner alone.

        Raises:
            EnvironmentFault: it cannot be made, or is somebody else's.
        """
        folder = self.folder / kind
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _refused(folder, "made", error) from error
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            raise _refused(folder, "used", PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        return self.place(kind, name, suffix)

    def read(self, kind: str, name: str, type_: type[_T]) -> _T | None:
        """What was kept, or None; a damaged file counts as absent.

        Raises:
            EnvironmentFault: it is there and may not be read: somebody else's, whose word counts.
        """
        path = self.place(kind, name)
        try:
            return msgspec.json.decode(path.read_bytes(), type=type_)
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise _refused(path, "read", error) from error

    def write(self, kind: str, name: str, content: Any) -> Path:
        """Keep a msgspec structure; returns its path."""
        path = self.path(kind, name)
        write_whole(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
        return path

    def forget(self, kind: str, name: str) -> None:
        path = self.path(kind, name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _refused(path, "removed", error) from error

    def receipt(self, board: str, kind: str, content: Any) -> Path:
        """A receipt is never overwritten."""
        stamp = re.sub(r"[-:]", "", utc_now())
        for number in range(1000):
            name = f"{board}-{kind}-{stamp}" + (f"-{number}" if number else "")
            if not os.path.exists(self.path("receipts", name)):  # False, and no error, where we may not look
                return self.write("receipts", name, content)
        raise EnvironmentFault(f"{self.folder}/receipts: a thousand receipts in a second", "look what runs there")

    @contextmanager
    def busy(self, board: str, doing: str) -> Iterator[None]:
        """Only one command at a time works on a board; another is refused and told which."""
        path = self.path("locks", board, ".lock")
        with _opened(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise SafetyRefusal(
                    f"board {board}: {file.read().strip() or 'another command'} is still running",
                    "wait for it, or end it",
                ) from error
            try:
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), f"{doing} (process {os.getpid()})".encode())
            except OSError as error:
                raise _refused(path, "written", error) from error
            yield


def _opened(path: Path) -> IO[str]:
    try:
        return open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise _refused(path, "opened", error) from error


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """`write_durably`, private unless told otherwise, with an error for people."""
    try:
        write_durably(path, data, mode)
    except OSError as error:
        raise _refused(path, "written", error) from error


def _refused(path: Path, what: str, error: OSError) -> EnvironmentFault:
    hint = "check space and mode there"
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = (
            f"a command of another user, or of root, made it: run this one as that user, or chown -R it: {path.parent}"
        )
    return EnvironmentFault(f"{path}: cannot be {what}: {error.strerror}", hint)
