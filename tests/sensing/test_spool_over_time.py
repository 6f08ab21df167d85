"""What months of records leave in a spool's memory: nothing, and what they leave on disk is taken over at once."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

from hil_config.wire.spool_file import pack_record, segment_name
from tests.sensing.test_spool import opened, texts


def test_what_is_home_is_not_remembered(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(lambda seq: b"r")
    spool.acknowledge(1)
    tracemalloc.start()
    for _ in range(20_000):
        spool.acknowledge(spool.append(lambda seq: b"r"))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 200_000, "a board that runs for months must not hold a word for each record of its life"
    spool.close()


def test_what_a_long_life_left_is_taken_over_without_counting_to_it(tmp_path: Path) -> None:
    last = 1_000_000
    for seq in (last - 5, last):
        (tmp_path / segment_name(seq)).write_bytes(pack_record(seq, b"r"))
    tracemalloc.start()
    spool = opened(tmp_path)
    spool.acknowledge(1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000, "records of months are a gap, not a word for each of them"
    assert texts(spool.after(0, 9, 256))[:2] == [b"r", b"r"]
    ((_, told),) = spool.gaps()
    assert json.loads(told)["gap"] == [[1, last - 6], [last - 4, last - 1]]
    spool.acknowledge(spool.last_seq)
    assert spool.waiting == 0 and spool.acked == last + 1
    spool.close()


def test_a_large_spool_has_no_more_open_files_than_a_usual_one(tmp_path: Path) -> None:
    spool = opened(tmp_path, 4 << 30)
    for _ in range(60):
        spool.append(lambda seq: bytes(1 << 20))
    assert len(list(tmp_path.glob("*.spool"))) <= 60 * (1 << 20) // ((4 << 30) // 256) + 1
    spool.acknowledge(60)
    spool.close()
