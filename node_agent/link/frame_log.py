"""The achieved delay of every frame, on disk: 48 bytes each, for whoever wants more than a link report's histogram."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hil_config.errors import DataFileError, EnvironmentFault

MAGIC = b"HILFLOG1"
_ROW = struct.Struct("<16sIIddd")
_ROWS_PER_WRITE = 256


class LoggedFrame(NamedTuple):
    """Monotonic seconds: handed to the link, due at the peer by the schedule, and handed to the peer."""

    peer: str
    size: int
    sent_s: float
    due_s: float
    achieved_s: float


def open_frame_log(folder: str, run: str, node: str) -> FrameLog | None:
    """FOLDER/RUN-NODE.N.frames with the first free N; None where no folder is configured."""
    if not folder:
        return None
    number = 0
    while (path := Path(folder) / f"{run}-{node}.{number}.frames").exists():
        number += 1
    return FrameLog(path)


class FrameLog:
    """Appends to one file; names of peers are cut at 16 bytes. Written in blocks, so the last may be missing after a
    crash. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[bytes] = []
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb")
        except OSError as error:
            raise EnvironmentFault(
                f"{path}: cannot be written: {error.strerror}", "choose another frame_log"
            ) from error
        self._file.write(MAGIC)

    def write(self, peer: str, size: int, sent_s: float, due_s: float, achieved_s: float) -> None:
        row = _ROW.pack(peer.encode()[:16], size, 0, sent_s, due_s, achieved_s)
        with self._lock:
            self._rows.append(row)
            if len(self._rows) >= _ROWS_PER_WRITE:
                self._flush()

    def _flush(self) -> None:
        if not self._file.closed:
            self._file.write(b"".join(self._rows))
        self._rows.clear()

    def close(self) -> None:
        with self._lock:
            self._flush()
            self._file.close()


def read_frame_log(path: Path) -> Iterator[LoggedFrame]:
    """The rows of a log; a cut last row is left out. DataFileError if it is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}") from error
    if data[:8] != MAGIC:
        raise DataFileError(f"{path}: not a frame log (starts {data[:8]!r})")
    for start in range(8, len(data) - _ROW.size + 1, _ROW.size):
        name, size, _, sent_s, due_s, achieved_s = _ROW.unpack_from(data, start)
        yield LoggedFrame(name.rstrip(b"\0").decode(errors="replace"), size, sent_s, due_s, achieved_s)
