"""The on-disk spool: evidence waits here until the ground has committed it.

Append-only segment files of length-prefixed, CRC-guarded records. A record is with the operating system
before it is published, so a killed agent loses nothing it had numbered; a power cut can take what the system
had not yet written (segments are synced when they close). Segments are deleted only when the whole of them
is below the ground's watermark. Reading stops at a torn tail.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from hil_config.errors import EnvironmentFault
from hil_config.wire.spool_file import SUFFIX, pack_record, segment_name

SEGMENT_BYTES = 1 << 20


class Spool:
    """Numbered records of one boot, kept until acknowledged.

    Args:
        folder: this boot's own folder; created.
        max_bytes: when more is waiting, `append` drops the new record and counts it: the caller writes the
            gap as an event once there is room again.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._waiting: dict[int, bytes] = {}
        self._bytes = 0
        self._seq = 0
        self._acked = 0
        self._segments: list[tuple[int, Path]] = []  # last seq of each closed segment
        self._file: BinaryIO | None = None
        self.dropped = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(
                f"{folder}: the spool cannot be made: {error.strerror}", "free space or choose another folder"
            ) from error

    def append(self, build: Callable[[int], bytes]) -> int:
        """Number, write and keep one record; `build(seq)` gives its bytes. 0 if the spool is full."""
        with self._lock:
            if self._bytes > self._max_bytes:
                self.dropped += 1
                return 0
            seq = self._seq + 1
            payload = build(seq)
            if self._file is None or self._file.tell() > SEGMENT_BYTES:
                self._roll(seq)
            assert self._file is not None
            self._file.write(pack_record(seq, payload))
            self._file.flush()
            self._seq = seq
            self._waiting[seq] = payload
            self._bytes += len(payload)
            return seq

    def _roll(self, seq: int) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._segments.append((seq - 1, Path(self._file.name)))
        self._file = (self._folder / segment_name(seq)).open("ab")

    def acknowledge(self, seq: int) -> None:
        """The ground has committed everything up to `seq`."""
        with self._lock:
            for done in range(self._acked + 1, min(seq, self._seq) + 1):
                self._bytes -= len(self._waiting.pop(done, b""))
            self._acked = max(self._acked, min(seq, self._seq))
            while self._segments and self._segments[0][0] <= self._acked:
                self._segments.pop(0)[1].unlink(missing_ok=True)

    def after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` waiting records above `seq`, in order."""
        with self._lock:
            first = max(seq, self._acked) + 1
            return [(n, self._waiting[n]) for n in range(first, min(self._seq, first + limit - 1) + 1)]

    @property
    def acked(self) -> int:
        return self._acked

    @property
    def last_seq(self) -> int:
        return self._seq

    def close(self) -> None:
        """Flush to disk; what is not acknowledged stays there for whoever collects it."""
        with self._lock:
            if self._file is not None:
                os.fsync(self._file.fileno())
                self._file.close()
                self._file = None
                if self._acked >= self._seq:
                    for path in self._folder.glob(f"*{SUFFIX}"):
                        path.unlink(missing_ok=True)
