"""The journal: once, in order, and a watermark that never passes a hole."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from ground_controller.admission import NO_MODEL
from ground_controller.fleet.evidence import arrival
from ground_controller.inbox import Arrival, Inbox
from ground_controller.journal import NAME, Entry, Journal
from hil_config.errors import EnvironmentFault, InvalidRunError


def evidence(seq: int, node: str = "alpha", boot: str = "b1") -> Entry:
    return Entry(1, 0.5, 99, "samples", node, boot, seq, b"{}")


def test_evidence_counts_once_whatever_the_order_and_the_repeats(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path)
    rng = random.Random(1)
    seqs = list(range(1, 201)) * 2
    rng.shuffle(seqs)
    seen: set[int] = set()
    for start in range(0, len(seqs), 7):
        chunk = seqs[start : start + 7]
        journal.commit([evidence(seq) for seq in chunk])
        seen.update(chunk)
        holes = next(n for n in range(1, 300) if n not in seen)
        assert journal.watermarks()["alpha", "b1"] == holes - 1
    assert len(list(journal.entries())) == 200
    assert journal.gaps() == {}
    journal.close()


def test_a_hole_holds_the_watermark_and_shows_as_a_gap(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path)
    journal.commit([evidence(1), evidence(3), evidence(1, boot="b2")])
    assert journal.watermarks() == {("alpha", "b1"): 1, ("alpha", "b2"): 1}
    assert journal.gaps() == {("alpha", "b1"): 1}
    journal.close()


def test_entries_without_seq_are_all_kept(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path)
    status = Entry(0, 0.0, 1, "status", "alpha", "b1", 0, b"{}")
    assert journal.commit([status, status]) == [status, status]
    assert [entry.kind for entry in journal.entries("status")] == ["status", "status"]
    journal.close()


def test_a_second_journal_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    Journal.create(tmp_path).close()
    with pytest.raises(EnvironmentFault, match="has a journal already"):
        Journal.create(tmp_path)


def test_reading_what_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(InvalidRunError, match="not a run folder"):
        Journal.read(tmp_path)
    (tmp_path / NAME).write_bytes(b"this is no database at all, but long enough to look at" * 50)
    with pytest.raises(InvalidRunError):
        Journal.read(tmp_path)


@pytest.mark.parametrize("watch", [False, True])
def test_a_journal_is_read_where_nothing_can_be_written_beside_it(tmp_path: Path, watch: bool) -> None:
    """An archive, a colleague's folder, a full disk: SQLite wants to make a file beside it even to read."""
    journal = Journal.create(tmp_path)
    journal.commit([evidence(1)])
    journal.close()
    (tmp_path / f"{NAME}-shm").symlink_to(tmp_path / "none" / "such")  # what stops root too
    journal = Journal.read(tmp_path, watch=watch)
    assert [entry.seq for entry in journal.entries()] == [1]
    journal.close()
    with pytest.raises(EnvironmentFault, match="permissions"):
        Journal.reopen(tmp_path)


def test_a_journal_with_a_log_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    writing = Journal.create(tmp_path / "run")
    writing.commit([evidence(1)])
    shutil.copytree(tmp_path / "run", tmp_path / "copy", ignore=shutil.ignore_patterns("*-shm"))
    writing.close()
    (tmp_path / "copy" / f"{NAME}-shm").symlink_to(tmp_path / "none" / "such")
    with pytest.raises(EnvironmentFault, match="where you may write"):
        Journal.read(tmp_path / "copy")


def test_what_cannot_be_written_is_told_like_any_fault_of_the_machine(tmp_path: Path) -> None:
    Journal.create(tmp_path).close()
    journal = Journal.read(tmp_path, watch=True)
    with pytest.raises(EnvironmentFault, match="readonly"):
        journal.set_meta("ended_utc", "now")
    with pytest.raises(EnvironmentFault, match="readonly"):
        journal.commit([evidence(1)])
    journal.close()


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    Journal.create(tmp_path).close()
    with sqlite3.connect(tmp_path / NAME) as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    db.close()
    with pytest.raises(InvalidRunError, match="version 99"):
        Journal.read(tmp_path)


def test_inbox_overflow_is_counted_never_silent() -> None:
    inbox = Inbox(capacity=3)
    for n in range(5):
        inbox.put(Arrival(n, "status", "alpha", "b", 0, b""))
    assert inbox.overflowed == 2
    assert [arrival.host_ns for arrival in inbox.drain()] == [0, 1, 2]
    assert inbox.drain() == []


def test_a_gap_record_of_a_later_release_counts_though_it_is_refused(tmp_path: Path) -> None:
    """Else the board that sent it would wait for a watermark for ever."""
    body = b'{"v":2,"node":"alpha","boot_id":"b1","seq":4,"body":{"type":"gap","ranges":[[1,3]],"novelty":1}}'
    found = arrival(body, NO_MODEL)
    journal = Journal.create(tmp_path)
    fresh = journal.commit([Entry(1, 0.5, *found[:6]), evidence(5)])
    assert [entry.kind for entry in fresh] == ["refused", "samples"]
    assert journal.watermarks() == {("alpha", "b1"): 5}
    assert (journal.gaps(), journal.shed(), journal.refused()) == ({}, {("alpha", "b1"): 3}, {("alpha", "b1"): 1})
    journal.close()
    again = Journal.reopen(tmp_path)
    again.recall_watermarks()
    assert again.watermarks() == {("alpha", "b1"): 5}
    again.close()
