"""The journal: the append-only record of a run. Record first, then apply; everything else is derived from it.

One SQLite file in WAL mode. Every entry has the tick in which it was applied, so that replay meets the world
in the same order. Evidence of a node carries (node, boot_id, seq); a second arrival is recognised and not
written. A tick's entries and the new watermarks are one transaction.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from ground_controller.admission import KIND as REFUSED
from ground_controller.admission import Refused
from hil_config.errors import EnvironmentFault, InvalidRunError

SCHEMA_VERSION = 2
"""2: a decision holds its nodes by column (`decision.NodeBlocks`)."""
READABLE = ("1", "2")
NAME = "journal.sqlite"
WORK_ENDED = "work_ended_host_ns"
"""Key of `meta`: when nothing was left to do; what ticks followed only waited for the last records."""
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE entry (
  id INTEGER PRIMARY KEY, tick INTEGER NOT NULL, scenario_s REAL NOT NULL, host_ns INTEGER NOT NULL,
  kind TEXT NOT NULL, node TEXT NOT NULL, boot_id TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE UNIQUE INDEX evidence ON entry (node, boot_id, seq) WHERE seq > 0;
CREATE INDEX kinds ON entry (kind, id);
"""
_COLUMNS = "tick, scenario_s, host_ns, kind, node, boot_id, seq, body"

_INSERT = (
    "INSERT OR IGNORE INTO entry (tick, scenario_s, host_ns, kind, node, boot_id, seq, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


_NOT_WRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)


class Entry(NamedTuple):
    """One row. `seq` above 0: evidence of (node, boot_id). `body` is JSON of the kind's type."""

    tick: int
    scenario_s: float
    host_ns: int
    kind: str
    node: str
    boot_id: str
    seq: int
    body: bytes


class _Ranges(msgspec.Struct, frozen=True, tag="gap"):
    ranges: tuple[tuple[int, int], ...]


class _GapLike(msgspec.Struct, frozen=True):
    """A gap record of this release or, refused, of a later one: else its board would wait for a number for ever."""

    body: _Ranges


def _gap_ranges(entry: Entry) -> list[tuple[int, int]]:
    """The numbers a gap record gives up: below its own, whatever it says."""
    try:
        if entry.kind == REFUSED:
            pairs = msgspec.json.decode(msgspec.json.decode(entry.body, type=Refused).record, type=_GapLike).body.ranges
        elif entry.kind == "gap":
            pairs = msgspec.json.decode(entry.body, type=_GapLike).body.ranges
        else:
            return []
    except (ValueError, RecursionError):
        return []
    return [(max(1, first), min(last, entry.seq - 1)) for first, last in pairs]


def check_new(folder: Path) -> Path:
    """Where the journal of a new run folder will be; EnvironmentFault if there is one."""
    path = folder / NAME
    if path.exists():
        raise EnvironmentFault(f"{path}: this run folder has a journal already", "choose another --out")
    return path


def _watching(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing. Whoever closes a journal last moves its log into the main file, unless it
    may only read; one without a log must be opened for writing, or an empty log stays behind."""
    log = path.with_name(f"{NAME}-wal")
    only = "?mode=ro" if log.exists() and log.stat().st_size else ""
    db = sqlite3.connect(f"{path.absolute().as_uri()}{only}", uri=True, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA query_only=ON")
    return db


def _reading(path: Path, watch: bool) -> sqlite3.Connection:
    """A connection that has read the file. SQLite wants to write beside a journal even to read it: where it cannot (an
    archive, a colleague's folder, a full disk), a journal whose log is empty is read as what will not change."""
    db = _watching(path) if watch else sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("SELECT 1 FROM meta").fetchone()
        return db
    except sqlite3.Error as error:
        db.close()
        if error.sqlite_errorcode & 0xFF not in _NOT_WRITABLE:
            raise
        log = path.with_name(f"{NAME}-wal")
        if not os.access(path, os.R_OK) or (log.exists() and log.stat().st_size):
            hint = f"check free space and permissions: {log.name} beside it can be read only where you may write"
            raise EnvironmentFault(f"{path}: {error}", hint) from error
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=not watch)


class Journal:
    """Open for writing by one process (`create`) or for reading (`read`)."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self.path = path
        self._marks: dict[tuple[str, str], int] = {}
        self._ahead: dict[tuple[str, str], set[int]] = {}
        self._skips: dict[tuple[str, str], list[tuple[int, int]]] = {}

    @classmethod
    def create(cls, folder: Path, power_safe: bool = True) -> Journal:
        """A new journal in `folder`; EnvironmentFault if it cannot be written or exists.

        A process that dies never costs what was committed. Where the record can be calculated again, `power_safe`
        False spares waiting for the disk at every commit: the tail may then be lost with the machine's power.
        """
        path = check_new(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"PRAGMA synchronous={'FULL' if power_safe else 'NORMAL'}")
            db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise EnvironmentFault(f"{path}: {error}", "check free space and permissions") from error
        journal = cls(db, path)
        journal.set_meta("schema_version", str(SCHEMA_VERSION))
        return journal

    @classmethod
    def reopen(cls, folder: Path) -> Self:
        """An existing journal, to be written on; whoever wrote it must be gone (`ground_controller.run_lock`)."""
        journal = cls.read(folder)
        try:
            journal._db.execute("PRAGMA synchronous=FULL")
            journal._db.execute("DELETE FROM meta WHERE 0")  # fails where nothing can be written
        except sqlite3.Error as error:
            raise EnvironmentFault(f"{journal.path}: {error}", "check free space and permissions") from error
        return journal

    @classmethod
    def read(cls, folder: Path, *, watch: bool = False) -> Self:
        """An existing journal; InvalidRunError if there is none or its version is another.

        With `watch` nothing can be written through it, and any thread may use it, one at a time.
        """
        path = folder / NAME
        if not path.exists():
            raise InvalidRunError(f"{folder}: not a run folder, it has no {NAME}", "give a folder under runs/")
        try:
            journal = cls(_reading(path, watch), path)
            version = journal.meta("schema_version")
        except sqlite3.Error as error:
            hint = "the file is damaged or not a journal: take the run folder from a copy, or run the campaign again"
            raise InvalidRunError(f"{path}: {error}", hint) from error
        if version not in READABLE:
            raise InvalidRunError(
                f"{path}: journal version {version}, this release reads {', '.join(READABLE)}",
                "read it with the release that made it",
            )
        return journal

    def set_meta(self, key: str, value: str) -> None:
        """EnvironmentFault if it cannot be written."""
        try:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
        except sqlite3.Error as error:
            raise EnvironmentFault(f"{self.path}: {error}", "the run stops here; free space and resume") from error

    def covers(self, node: str) -> bool:
        """Is this record about the node? A part of a run's record leaves some out (`ground_controller.mixed`)."""
        return True

    def meta(self, key: str, default: str | None = None) -> str:
        """The value of `key`, else the default, or InvalidRunError without one."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is not None:
            return str(row[0])
        if default is None:
            raise InvalidRunError(
                f"{self.path}: the run recorded no {key!r}: it ended before it got that far",
                "read the logs in the run folder and run the campaign again",
            )
        return default

    def commit(self, entries: list[Entry]) -> list[Entry]:
        """Write entries in one transaction; returns those that were new (duplicated evidence is left out)."""
        fresh = entries
        try:
            self._db.execute("BEGIN IMMEDIATE")
            before = self._db.total_changes
            self._db.executemany(_INSERT, entries)
            if self._db.total_changes - before < len(entries):  # rare: which were they?
                self._db.execute("ROLLBACK")
                self._db.execute("BEGIN IMMEDIATE")
                fresh = [entry for entry in entries if self._db.execute(_INSERT, entry).rowcount]
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise EnvironmentFault(f"{self.path}: {error}", "the run stops here; free space and resume") from error
        for entry in fresh:
            if entry.seq > 0:
                self._advance((entry.node, entry.boot_id), entry.seq, _gap_ranges(entry))
        return fresh

    def _advance(self, source: tuple[str, str], seq: int, shed: list[tuple[int, int]]) -> None:
        ahead = self._ahead.setdefault(source, set())
        if seq == self._marks.get(source, 0) + 1 and not (ahead or shed or self._skips.get(source)):
            self._marks[source] = seq  # in order, as nearly always
            return
        ahead.add(seq)
        skips = self._skips.setdefault(source, [])
        skips += shed
        mark = self._marks.get(source, 0)
        while True:
            mark, before = max((last for first, last in skips if first <= mark + 1 <= last), default=mark), mark
            while mark + 1 in ahead:
                mark += 1
            if mark == before:
                break
        self._marks[source] = mark
        if skips or len(ahead) > 1:
            self._skips[source] = [pair for pair in skips if pair[1] > mark]
            self._ahead[source] = {n for n in ahead if n > mark}
        else:
            ahead.discard(seq if seq <= mark else 0)

    def recall_watermarks(self) -> None:
        """Take the watermarks of a reopened journal from what is in it."""
        for entry in self.entries():
            if entry.seq > 0:
                self._advance((entry.node, entry.boot_id), entry.seq, _gap_ranges(entry))

    def watermarks(self) -> dict[tuple[str, str], int]:
        """(node, boot_id) -> the highest seq up to which every record is committed."""
        return dict(self._marks)

    def records(self) -> int:
        """How many records of nodes are committed."""
        return int(self._db.execute("SELECT COUNT(*) FROM entry WHERE seq > 0").fetchone()[0])

    def gaps(self) -> dict[tuple[str, str], int]:
        """(node, boot_id) -> records that never came and that no gap record of the node explains."""
        rows = self._db.execute(
            "SELECT node, boot_id, COUNT(*), MAX(seq) FROM entry WHERE seq > 0 GROUP BY node, boot_id"
        )
        short = {(node, boot): last - count for node, boot, count, last in rows if last != count}
        shed = self.shed() if short else {}
        left = {source: count - shed.get(source, 0) for source, count in short.items()}
        return {source: count for source, count in left.items() if count}

    def refused(self) -> dict[tuple[str, str], int]:
        """(node, boot_id) -> records that are in the journal and were not believed."""
        query = "SELECT node, boot_id, COUNT(*) FROM entry WHERE kind = ? GROUP BY node, boot_id"
        rows = self._db.execute(query, (REFUSED,))
        return {(node, boot): count for node, boot, count in rows if self.covers(node)}

    def shed(self, first: Mapping[tuple[str, str], int] | None = None) -> dict[tuple[str, str], int]:
        """(node, boot_id) -> records that the node says it gave up and that are not in the journal.

        Args:
            first: the first number of each source that counts, and none of other sources; None counts all.
        """
        ranges: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for entry in self.entries("gap", REFUSED):
            ranges.setdefault((entry.node, entry.boot_id), []).extend(_gap_ranges(entry))
        found = {}
        for source, pairs in ranges.items():
            if first is not None and source not in first:
                continue
            lost, done = 0, 0 if first is None else first[source] - 1
            for lowest, last in sorted(pairs):
                begin = max(lowest, done + 1)
                if begin <= last:
                    query = "SELECT COUNT(*) FROM entry WHERE node = ? AND boot_id = ? AND seq BETWEEN ? AND ?"
                    have = self._db.execute(query, (*source, begin, last)).fetchone()[0]
                    lost, done = lost + last - begin + 1 - have, last
            if lost:
                found[source] = lost
        return found

    def entries(self, *kinds: str) -> Iterator[Entry]:
        """All entries, or those of `kinds`, in the order they were applied."""
        where = f" WHERE kind IN ({','.join('?' * len(kinds))})" if kinds else ""
        for row in self._db.execute(f"SELECT {_COLUMNS} FROM entry{where} ORDER BY id", kinds):
            yield Entry(*row)

    def damage(self) -> str:
        """What SQLite finds wrong with the file; empty if nothing."""
        try:
            found = [str(row[0]) for row in self._db.execute("PRAGMA quick_check(3)")]
        except sqlite3.Error as error:
            return str(error)
        return "" if found == ["ok"] else "; ".join(found)

    def since(self, mark: int, most: int, kinds: tuple[str, ...]) -> tuple[int, list[tuple[int, Entry]]]:
        """Entries of `kinds` among the next `most` after number `mark`, each with its number; and the mark to go on
        from. Numbers count from 1 in the order of application."""
        # The sign keeps SQLite from walking the index of kinds: new rows are few and lie together.
        where = f"id > ? AND id <= ? AND +kind IN ({','.join('?' * len(kinds))})"
        query = f"SELECT id, {_COLUMNS} FROM entry WHERE {where} ORDER BY id"
        try:
            last = self._db.execute("SELECT MAX(id) FROM entry").fetchone()[0] or 0
            until = min(last, mark + most)
            rows = self._db.execute(query, (mark, until, *kinds)).fetchall()
        except sqlite3.Error as error:
            raise InvalidRunError(f"{self.path}: {error}", "the file is damaged: hil campaign verify RUN") from error
        return max(mark, until), [(row[0], Entry(*row[1:])) for row in rows]

    def newest(self, kind: str, until: int, most: int, after: int = 0) -> list[tuple[int, Entry]]:
        """The last `most` entries of a kind with numbers above `after` and up to `until`, in order."""
        query = f"SELECT id, {_COLUMNS} FROM entry WHERE kind = ? AND id > ? AND id <= ? ORDER BY id DESC LIMIT ?"
        rows = self._db.execute(query, (kind, after, until, most)).fetchall()
        return [(row[0], Entry(*row[1:])) for row in reversed(rows)]

    def count(self, kind: str, until: int) -> int:
        """How many entries of a kind have numbers up to `until`."""
        query = "SELECT COUNT(*) FROM entry WHERE kind = ? AND id <= ?"
        return int(self._db.execute(query, (kind, until)).fetchone()[0])

    def close(self) -> None:
        self._db.close()
