"""The on-disk spool: evidence waits here until the ground has committed it.

A record is with the operating system before it is published, so a killed agent loses nothing that it had numbered; a
power cut can take what the system had not yet written (segments are synced when they close). When room runs out, the
oldest records of the low lane go first, then those of the high one, and a gap record says which numbers went and
why: no number is ever missing in silence. A disk that fails does not stop the node: what cannot be written stays
in memory, within bounds, and is tried again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import chain, pairwise
from pathlib import Path

from hil_config.errors import EnvironmentFault
from hil_config.wire.spool_file import SUFFIX, segment_lane
from node_agent.disk import Disk
from node_agent.segments import Kept, Segments

SEGMENT_BYTES = 1 << 20
MOST_SEGMENTS = 256
"""Of a lane that is full; each is an open file."""
MEMORY_BYTES = 4 << 20
RETRY_RECORDS = 64
Ranges = tuple[tuple[int, int], ...]


def ranges_of(numbers: Iterable[int]) -> Ranges:
    """Inclusive (first, last) pairs of a set of numbers."""
    found: list[list[int]] = []
    for n in sorted(numbers):
        if found and n == found[-1][1] + 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return tuple((a, b) for a, b in found)


class Spool:
    """Numbered records of one boot, kept until acknowledged.

    Args:
        folder: this boot's own folder; created. What an earlier process left in it is taken over.
        max_bytes: most payload that waits.
        gap: builds the payload of a gap record from (seq, ranges, reason).
        memory_bytes: most payload in memory; the rest is read back from disk.
    """

    def __init__(
        self, folder: Path, max_bytes: int, gap: Callable[[int, Ranges, str], bytes],
        memory_bytes: int = MEMORY_BYTES, disk: Disk | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self._max_bytes, self._memory_bytes = max_bytes, memory_bytes
        self._gap = gap
        self._lock = threading.RLock()
        size = max(4096, min(max(SEGMENT_BYTES, max_bytes // MOST_SEGMENTS), max_bytes // 8))
        disk = disk or Disk()
        self._high = Segments(folder, "a", disk, size)
        self._low = Segments(folder, "z", disk, size)
        self._bytes = self._in_memory = 0
        self._recent: deque[tuple[Segments, int]] = deque()
        self._unwritten: dict[int, Segments] = {}
        self._gaps: dict[int, Ranges] = {}
        self._shed: set[int] = set()
        self._seq = self._acked = self._floor = 0
        self.shed_records = 0
        self.disk_errors = 0
        self.last_disk_error = ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(
                f"{folder}: the spool cannot be made: {error.strerror}", "free space or choose another folder"
            ) from error
        self._take_over()

    def _take_over(self) -> None:
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                (self._low if segment_lane(path) == "z" else self._high).load(path)
            except OSError as error:
                self._note(error)
        numbers = self._low.waiting.keys() | self._high.waiting.keys()
        if not numbers:
            return
        self._seq = max(numbers)
        self._bytes = sum(k.size for lane in (self._low, self._high) for k in lane.waiting.values())
        gone = tuple((a + 1, b - 1) for a, b in pairwise([0, *sorted(numbers)]) if b - a > 1)
        if gone:
            self._declare(gone, "not in the spool any more when the agent started again")
        if self._bytes > self._max_bytes:
            self._make_room(self._bytes - self._max_bytes, "the spool was full", 0)

    def append(self, build: Callable[[int], bytes], low: bool = False) -> int:
        """Number, write and keep one record; `build(seq)` gives its bytes. Returns the number."""
        with self._lock:
            self._retry()
            seq = self._seq + 1
            payload = build(seq)
            self._seq = seq
            self._keep(seq, payload, self._low if low else self._high)
            if self._bytes > self._max_bytes:
                self._make_room(self._max_bytes // 16, "the spool was full", seq)
            return seq

    def _keep(self, seq: int, payload: bytes, lane: Segments) -> None:
        kept = lane.waiting[seq] = Kept(len(payload), payload)
        self._bytes += kept.size
        self._in_memory += kept.size
        try:
            lane.store(seq, kept)
        except OSError as error:
            self._note(error)
            self._unwritten[seq] = lane
        else:
            self._recent.append((lane, seq))
        while self._in_memory > self._memory_bytes and self._recent:
            self._release(*self._recent.popleft())
        if self._in_memory > self._memory_bytes:
            self._make_room(self._memory_bytes // 16, f"the disk failed: {self.last_disk_error}", seq, in_memory=True)

    def _release(self, lane: Segments, seq: int) -> None:
        """From now on this record is read from disk."""
        kept = lane.waiting.get(seq)
        if kept is not None and kept.payload is not None and kept.segment is not None:
            kept.payload = None
            self._in_memory -= kept.size

    def _note(self, error: OSError) -> None:
        self.disk_errors += 1
        self.last_disk_error = error.strerror or str(error)

    def _retry(self) -> None:
        for seq in list(self._unwritten)[:RETRY_RECORDS]:
            lane = self._unwritten[seq]
            try:
                lane.store(seq, lane.waiting[seq])
            except OSError as error:
                self._note(error)
                return
            del self._unwritten[seq]
            self._recent.append((lane, seq))

    def _make_room(self, wanted_bytes: int, reason: str, spare: int, in_memory: bool = False) -> None:
        """Shed the oldest of the low lane, then of the high one; gap records give their numbers to the next one."""
        freed, victims = 0, []
        for lane in (self._low, self._high):
            for seq, kept in lane.waiting.items():
                if freed >= max(1, wanted_bytes):
                    break
                if seq != spare and (kept.payload is not None or not in_memory):
                    freed += kept.size
                    victims.append((lane, seq))
        if victims:
            self._give_up(victims, reason)

    def _give_up(self, victims: list[tuple[Segments, int]], reason: str) -> None:
        numbers: set[int] = set()
        for lane, seq in victims:
            numbers.add(seq)
            for first, last in self._gaps.pop(seq, ()):
                numbers.update(range(first, last + 1))
            self._forget(lane, seq)
        self.shed_records += len(victims)
        self._declare(ranges_of(numbers), reason)

    def _declare(self, ranges: Ranges, reason: str) -> None:
        for first, last in ranges:
            if first <= self._floor + 1:  # of a long life almost all: not one by one
                self._floor = max(self._floor, last)
            else:
                self._shed.update(range(first, last + 1))
        self._seq += 1
        seq = self._seq
        self._gaps[seq] = ranges
        self._keep(seq, self._gap(seq, ranges, reason), self._high)
        self._raise_floor()

    def rebase(self, reason: str) -> None:
        """A controller with an empty journal: tell it that everything up to the watermark is somebody else's."""
        with self._lock:
            if self._acked:
                self._declare(((1, self._acked),), reason)

    def _forget(self, lane: Segments, seq: int) -> None:
        kept = lane.forget(seq)
        if kept is None:
            return
        self._bytes -= kept.size
        self._in_memory -= kept.size if kept.payload is not None else 0
        self._unwritten.pop(seq, None)

    def _raise_floor(self) -> None:
        self._floor = max(self._floor, self._acked)
        while self._floor + 1 in self._shed:
            self._floor += 1
        if self._floor > self._acked:
            self._shed = {n for n in self._shed if n > self._floor}

    def acknowledge(self, seq: int) -> None:
        """The ground has committed, or knows as a gap, everything up to `seq`."""
        with self._lock:
            seq = min(seq, self._seq)
            for done in self._known(seq):
                self._gaps.pop(done, None)
                self._shed.discard(done)
                self._forget(self._high if done in self._high.waiting else self._low, done)
            self._acked = max(self._acked, seq)
            while self._recent and self._recent[0][1] <= self._acked:
                self._recent.popleft()
            self._raise_floor()

    def _known(self, seq: int) -> Iterable[int]:
        """What there is to forget up to `seq`. What a long life left behind begins at a number of millions."""
        span = range(self._acked + 1, seq + 1)
        tables: tuple[Collection[int], ...] = (self._low.waiting, self._high.waiting, self._gaps, self._shed)
        if len(span) <= sum(len(table) for table in tables):
            return span
        return [n for n in chain(*tables) if n <= seq]

    def after(self, seq: int, limit: int, window: int) -> list[tuple[int, bytes]]:
        """Up to `limit` waiting records above `seq`, in order, none further than `window` numbers ahead of the floor.

        The floor is the highest number up to which everything is committed or shed.
        """
        found: list[tuple[int, bytes]] = []
        with self._lock:
            n, last = max(seq, self._floor) + 1, min(self._seq, self._floor + window)
            while n <= last and len(found) < limit:
                payload = self._read(n)
                if payload is not None:
                    found.append((n, payload))
                n += 1
        return found

    def gaps(self) -> list[tuple[int, bytes]]:
        """Gap records that are not acknowledged yet: the ground needs them before its watermark can pass the gap."""
        with self._lock:
            return [(seq, payload) for seq in list(self._gaps) if (payload := self._read(seq)) is not None]

    def _read(self, seq: int) -> bytes | None:
        lane = self._high if seq in self._high.waiting else self._low
        if seq not in lane.waiting:
            return None
        for _ in range(2):  # a transient error of a card is common; two in a row are not
            try:
                return lane.read(seq)
            except OSError as error:
                self._note(error)
        self._give_up([(lane, seq)], f"could not be read back: {self.last_disk_error}")
        return None

    @property
    def bytes(self) -> int:
        """Payload that waits."""
        return self._bytes

    @property
    def acked(self) -> int:
        return self._acked

    @property
    def last_seq(self) -> int:
        return self._seq

    @property
    def waiting(self) -> int:
        """Records that the ground does not have yet."""
        with self._lock:
            return len(self._low.waiting) + len(self._high.waiting)

    def close(self) -> None:
        """Sync to disk; what is not acknowledged stays there for the next start or whoever collects it."""
        with self._lock:
            self._retry()
            self._low.close()
            self._high.close()
            if not self._low.waiting and not self._high.waiting:
                try:
                    self.folder.rmdir()
                except OSError:
                    pass  # not empty: a file of ours could not be removed
