"""One lane of the spool: append-only segment files, and where in them each waiting record lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hil_config.wire.spool_file import HEAD_BYTES, Lane, pack_record, scan_segment, segment_name, unpack_record
from node_agent.disk import Disk


@dataclass(eq=False)
class Segment:
    """A file; `live` counts its records that are still waiting."""

    path: Path
    fd: int
    size: int = 0
    live: int = 0


@dataclass
class Kept:
    """A waiting record: in memory, on disk, or both."""

    size: int
    payload: bytes | None
    segment: Segment | None = None
    offset: int = 0


@dataclass
class Segments:
    """Args: `segment_bytes` is where a file is closed and the next one begun."""

    folder: Path
    lane: Lane
    disk: Disk
    segment_bytes: int
    waiting: dict[int, Kept] = field(default_factory=dict)
    _open: Segment | None = None
    _closed: list[Segment] = field(default_factory=list)

    def store(self, seq: int, kept: Kept) -> None:
        """Write a record that is in memory. OSError leaves it there, and what was half written is cut off."""
        assert kept.payload is not None
        data = pack_record(seq, kept.payload)
        segment = self._open
        if segment is None or segment.size + len(data) > max(self.segment_bytes, len(data)):
            self._roll()
            path = self.folder / segment_name(seq, self.lane)
            segment = self._open = Segment(path, self.disk.create(path))
        try:
            self.disk.write(segment.fd, data)
        except OSError:
            self._abandon(segment)
            raise
        kept.segment, kept.offset = segment, segment.size
        segment.size += len(data)
        segment.live += 1

    def _abandon(self, segment: Segment) -> None:
        """Nothing may be appended behind a half-written record: a reader would stop there."""
        try:
            self.disk.truncate(segment.fd, segment.size)
        except OSError:
            self._open = None
            self._closed.append(segment)
            self._sweep()

    def _roll(self) -> None:
        if self._open is not None:
            segment, self._open = self._open, None
            self._closed.append(segment)
            try:
                self.disk.sync(segment.fd)
            except OSError:
                pass  # the record is with the system; it can still be read back or is found missing then
            self._sweep()

    def read(self, seq: int) -> bytes:
        """A waiting record's payload; OSError if the disk does not give it back whole."""
        kept = self.waiting[seq]
        if kept.payload is not None:
            return kept.payload
        assert kept.segment is not None
        data = self.disk.read(kept.segment.fd, HEAD_BYTES + kept.size, kept.offset)
        record = unpack_record(data)
        if record is None or record[0] != seq:
            raise OSError(5, "the record on disk is damaged")
        return record[1]

    def forget(self, seq: int) -> Kept | None:
        """A record is home or shed; files without waiting records are removed."""
        kept = self.waiting.pop(seq, None)
        if kept is not None and kept.segment is not None:
            kept.segment.live -= 1
            if not kept.segment.live:
                self._sweep()
        return kept

    def _sweep(self) -> None:
        for segment in [s for s in self._closed if not s.live]:
            self._drop(segment)
            self._closed.remove(segment)

    def _drop(self, segment: Segment) -> None:
        self._close(segment)
        try:
            self.disk.remove(segment.path)
        except OSError:
            pass  # a file that cannot be removed is handed in once more after the next start

    def _close(self, segment: Segment) -> None:
        try:
            self.disk.close(segment.fd)
        except OSError:
            pass  # Linux frees the number whatever close(2) says

    def load(self, path: Path) -> None:
        """Take over a file of an earlier boot. OSError if it cannot be read."""
        fd = self.disk.open(path)
        segment = Segment(path, fd)
        data = self.disk.read(fd, path.stat().st_size, 0)
        for offset, seq, payload in scan_segment(data):
            self.waiting[seq] = Kept(len(payload), None, segment, offset)
            segment.live += 1
            segment.size = offset + HEAD_BYTES + len(payload)
        self._closed.append(segment)
        self._sweep()

    def close(self) -> None:
        """Sync and close everything; files whose records are all home are removed."""
        self._roll()
        for segment in self._closed:
            self._close(segment)
        self._closed.clear()
