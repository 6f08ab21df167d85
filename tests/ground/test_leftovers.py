"""What a killed agent left in its spool comes into the record once."""

from __future__ import annotations

from pathlib import Path

from ground_controller.admission import NO_MODEL
from ground_controller.fleet.leftovers import collect
from ground_controller.inbox import Inbox
from ground_controller.journal import Entry, Journal
from hil_config.wire import messages as m
from node_agent.evidence import open_spool


def record(seq: int) -> bytes:
    body = m.NodeEvent("Something", seq)
    return m.encode(m.Record(node="delta", boot_id="b9", seq=seq, mono_ns=seq, wall_ns=0, body=body))


def test_only_what_the_journal_lacks_is_new(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool", "delta", "b9", 1 << 20)
    for _ in range(5):
        spool.append(record)
    journal = Journal.create(tmp_path)
    journal.commit([Entry(0, 0.0, 0, "event", "delta", "b9", seq, record(seq)) for seq in (1, 2)])
    inbox = Inbox()
    assert collect(tmp_path / "spool", ["delta"], inbox, NO_MODEL) == 5
    fresh = journal.commit([Entry(1, 1.0, *arrival[:6]) for arrival in inbox.drain()])
    assert [entry.seq for entry in fresh] == [3, 4, 5]
    assert journal.watermarks()["delta", "b9"] == 5
    assert collect(tmp_path / "spool", ["alpha"], inbox, NO_MODEL) == 0
    spool.close()
    journal.close()
