"""The spool: what was numbered is on disk until the ground has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hil_config.wire.spool_file import read_segment, read_spool
from node_agent.spool import Spool


def texts(found: list[tuple[int, bytes]]) -> list[bytes]:
    return [payload for _, payload in found]


stored = read_spool


def test_records_wait_in_order_until_acknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    for n in range(1, 6):
        assert spool.append(lambda seq: b"r%d" % seq) == n
    assert texts(spool.after(0, 3)) == [b"r1", b"r2", b"r3"]
    spool.acknowledge(2)
    assert spool.after(0, 9)[0] == (3, b"r3") and spool.acked == 2
    spool.acknowledge(99)
    assert spool.after(0, 9) == [] and spool.acked == 5
    spool.close()
    assert stored(tmp_path) == [], "all acknowledged: nothing stays"


def test_segments_below_the_watermark_are_deleted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 30)
    for _ in range(50):
        spool.append(lambda seq: b"x" * 100_000)
    before = len(list(tmp_path.glob("*.spool")))
    spool.acknowledge(40)
    assert 1 <= len(list(tmp_path.glob("*.spool"))) < before
    assert [seq for seq, _ in stored(tmp_path)][-10:] == list(range(41, 51))
    spool.close()


def test_a_full_spool_counts_what_it_drops_and_takes_new_records_when_there_is_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000)
    kept = sum(spool.append(lambda seq: b"y" * 300) > 0 for _ in range(10))
    assert spool.dropped == 10 - kept > 0
    spool.acknowledge(kept)
    assert spool.append(lambda seq: b"z") == kept + 1
    spool.close()


def test_a_process_killed_outright_leaves_every_record_it_numbered(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time\n"
        "from node_agent.spool import Spool\n"
        "spool = Spool(pathlib.Path(sys.argv[1]), 1 << 20)\n"
        "while True:\n"
        "    seq = spool.append(lambda n: b'record %d' % n)\n"
        "    print(seq, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = 0
    for line in process.stdout:
        last = int(line)
        if last >= 200:
            os.kill(process.pid, signal.SIGKILL)
            break
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    last = max([last, *map(int, rest)])
    found = stored(tmp_path)
    assert [seq for seq, _ in found][:last] == list(range(1, last + 1))
    assert found[last - 1][1] == b"record %d" % last


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=20), st.integers(0, 2000), st.booleans())
def test_a_torn_or_damaged_segment_gives_a_true_prefix(payloads: list[bytes], place: int, flip: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spool = Spool(folder, 1 << 20)
        for payload in payloads:
            spool.append(lambda seq, p=payload: p)  # type: ignore[misc]
        spool.close()
        (path,) = folder.glob("*.spool")
        data = bytearray(path.read_bytes())
        if flip:
            data[place % len(data)] ^= 0x10
        else:
            del data[place % len(data) :]
        path.write_bytes(data)
        found = read_segment(path)
        if not flip:
            assert texts(found) == payloads[: len(found)]
        else:
            assert all(payload == payloads[i] for i, (_, payload) in enumerate(found))
