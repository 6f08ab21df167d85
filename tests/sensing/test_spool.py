"""The spool: what was numbered is on disk until the ground has it, or is named in a gap record."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil_config.wire.spool_file import read_segment, read_spool
from node_agent.disk import Disk
from node_agent.spool import Ranges, Spool, ranges_of


def gap(seq: int, ranges: Ranges, reason: str) -> bytes:
    return json.dumps({"gap": ranges, "reason": reason}).encode()


def opened(folder: Path, max_bytes: int = 1 << 20, **rest: Any) -> Spool:
    return Spool(folder, max_bytes, gap, **rest)


def texts(found: list[tuple[int, bytes]]) -> list[bytes]:
    return [payload for _, payload in found]


def everything(spool: Spool) -> tuple[dict[int, bytes], set[int], list[str]]:
    """(records by number, numbers given up, reasons) as a ground that gets all of it sees them."""
    records: dict[int, bytes] = {}
    at = spool.acked
    while batch := spool.after(at, 100, 1 << 30):
        records.update(batch)
        at = batch[-1][0]
    records.update(spool.gaps())
    shed: set[int] = set()
    reasons = []
    for payload in records.values():
        if payload.startswith(b'{"gap"'):
            body = json.loads(payload)
            reasons.append(body["reason"])
            for first, last in body["gap"]:
                shed.update(range(first, last + 1))
    return records, shed, reasons


def test_records_wait_in_order_until_acknowledged(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for n in range(1, 6):
        assert spool.append(lambda seq: b"r%d" % seq, low=n % 2 == 0) == n
    assert texts(spool.after(0, 3, 256)) == [b"r1", b"r2", b"r3"]
    assert texts(spool.after(0, 9, 2)) == [b"r1", b"r2"], "the window is counted from the floor"
    spool.acknowledge(2)
    assert spool.after(0, 9, 256)[0] == (3, b"r3") and spool.acked == 2 and spool.waiting == 3
    spool.acknowledge(99)
    assert spool.after(0, 9, 256) == [] and spool.acked == 5
    spool.close()
    assert not tmp_path.exists(), "all acknowledged: nothing stays"


def test_segments_below_the_watermark_are_deleted(tmp_path: Path) -> None:
    spool = opened(tmp_path, 1 << 28)
    for _ in range(50):
        spool.append(lambda seq: b"x" * 100_000)
    before = len(list(tmp_path.glob("*.spool")))
    spool.acknowledge(40)
    assert 1 <= len(list(tmp_path.glob("*.spool"))) < before
    assert [seq for seq, _ in read_spool(tmp_path)][-10:] == list(range(41, 51))
    spool.close()


def test_only_a_little_is_held_in_memory_and_the_rest_is_read_back(tmp_path: Path) -> None:
    spool = opened(tmp_path, 1 << 30, memory_bytes=100_000)
    for _ in range(200):
        spool.append(lambda seq: b"%08d" % seq * 1000)
    assert spool._in_memory <= 100_000
    assert spool.after(0, 1000, 1000) == [(n, b"%08d" % n * 1000) for n in range(1, 201)]
    spool.close()


def test_a_full_spool_sheds_the_oldest_low_records_first_and_says_so(tmp_path: Path) -> None:
    spool = opened(tmp_path, 20_000)
    for n in range(1, 121):
        spool.append(lambda seq: b"%0300d" % seq, low=n % 3 != 0)
    records, shed, reasons = everything(spool)
    assert records.keys() | shed == set(range(1, spool.last_seq + 1)), "no number is missing in silence"
    assert set(reasons) == {"the spool was full"}
    mine = {n: int(p) for n, p in records.items() if not p.startswith(b"{")}
    assert all(n == value for n, value in mine.items())
    assert not any(n in shed for n in spool._high.waiting), "nothing that must not be lost went before the rest"
    assert sum(len(p) for p in records.values()) <= 20_000 + 4_000
    assert sum(f.stat().st_size for f in tmp_path.glob("*.spool")) < 45_000, "and the disk is given back"
    spool.close()


def test_when_only_important_records_are_left_the_oldest_of_them_go(tmp_path: Path) -> None:
    spool = opened(tmp_path, 10_000)
    for _ in range(300):
        spool.append(lambda seq: b"%0200d" % seq)
    records, shed, _ = everything(spool)
    assert records.keys() | shed == set(range(1, spool.last_seq + 1))
    plain = [n for n, p in records.items() if not p.startswith(b"{")]
    assert max(shed - set(plain)) < max(plain), "the newest are there"
    spool.close()


def test_acknowledging_passes_over_what_was_shed(tmp_path: Path) -> None:
    spool = opened(tmp_path, 8_000)
    for n in range(100):
        spool.append(lambda seq: b"%0200d" % seq, low=n < 60)
    _, shed, _ = everything(spool)
    assert spool.after(0, 1, 256), "the window opens behind the gap, or the publisher would wait for ever"
    spool.acknowledge(spool.last_seq)
    assert shed and spool.waiting == 0 and spool.gaps() == []
    assert spool.append(lambda seq: b"next") == spool.last_seq
    spool.close()


def test_a_new_controller_is_told_what_an_earlier_one_has(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.rebase("committed by an earlier run")
    assert spool.last_seq == 0, "nothing was committed yet: nothing to say"
    for _ in range(5):
        spool.append(lambda seq: b"r")
    spool.acknowledge(3)
    spool.rebase("committed by an earlier run")
    records, shed, reasons = everything(spool)
    assert (sorted(records), shed, reasons) == ([4, 5, 6], {1, 2, 3}, ["committed by an earlier run"])
    spool.close()


# --- a disk that fails ------------------------------------------------------------------------------------------


class FailingDisk(Disk):
    """Every n-th call of the named operations fails, a write after half of its bytes."""

    def __init__(self, every: int, code: int = errno.EIO, only: tuple[str, ...] = ()) -> None:
        self.every, self.code, self.only = every, code, only
        self.calls = 0
        self.whole = False

    def _fails(self, name: str) -> bool:
        if self.whole or (self.only and name not in self.only):
            return False
        self.calls += 1
        return self.calls % self.every == 0

    def _maybe(self, name: str) -> None:
        if self._fails(name):
            raise OSError(self.code, os.strerror(self.code))

    def create(self, path: Path) -> int:
        self._maybe("create")
        return super().create(path)

    def write(self, fd: int, data: bytes) -> None:
        if self._fails("write"):
            super().write(fd, data[: len(data) // 2])
            raise OSError(self.code, os.strerror(self.code))
        super().write(fd, data)

    def read(self, fd: int, count: int, offset: int) -> bytes:
        self._maybe("read")
        return super().read(fd, count, offset)

    def truncate(self, fd: int, size: int) -> None:
        self._maybe("truncate")
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self._maybe("sync")
        super().sync(fd)

    def remove(self, path: Path) -> None:
        self._maybe("remove")
        super().remove(path)


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 11, 50])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_every_nth_call_fails_and_nothing_is_missing_in_silence(tmp_path: Path, every: int, code: int) -> None:
    disk = FailingDisk(every, code)
    spool = opened(tmp_path / "s", 40_000, memory_bytes=10_000, disk=disk)
    chance = random.Random(every)
    seen: set[int] = set()
    gone: set[int] = set()
    for n in range(1, 601):
        spool.append(lambda seq: b"%0100d" % seq, low=chance.random() < 0.6)
        if n % 50 == 0:  # the ground takes some of it, and acknowledges what is whole
            for seq, payload in spool.after(spool.acked, 60, 256) + spool.gaps():
                seen.add(seq)
                if payload.startswith(b"{"):
                    gone.update(x for a, b in json.loads(payload)["gap"] for x in range(a, b + 1))
            mark = spool.acked
            while mark + 1 in seen | gone:
                mark += 1
            spool.acknowledge(mark)
    records, shed, _ = everything(spool)
    assert seen | gone | records.keys() | shed == set(range(1, spool.last_seq + 1))
    assert all(int(p) == n for n, p in records.items() if not p.startswith(b"{"))
    assert spool.disk_errors > 0 and spool._in_memory <= 11_000
    disk.whole = True  # the card is well again: what waited in memory gets to disk
    for _ in range(20):
        spool.append(lambda seq: b"%0100d" % seq)
    expected = everything(spool)[0]
    spool.close()
    kept = {seq: payload for seq, payload in read_spool(tmp_path / "s") if seq > spool.acked}
    assert {n: kept[n] for n in expected if n in kept} == expected


def test_a_record_that_cannot_be_read_back_becomes_a_gap(tmp_path: Path) -> None:
    spool = opened(tmp_path, 1 << 20, memory_bytes=0)
    for _ in range(10):
        spool.append(lambda seq: b"%0100d" % seq)
    (path,) = tmp_path.glob("*.spool")
    data = bytearray(path.read_bytes())
    data[4 * 116 + 50] ^= 1  # the fifth
    path.write_bytes(data)
    records, shed, reasons = everything(spool)
    assert shed == {5} and set(records) == {1, 2, 3, 4, 6, 7, 8, 9, 10, 11}
    assert reasons == ["could not be read back: the record on disk is damaged"]
    spool.close()


def test_a_full_file_system_of_the_kernel_sheds_and_recovers(tmp_path: Path) -> None:
    """No injection: the kernel refuses to let any file grow over 8 kB (RLIMIT_FSIZE), in a process of its own."""
    code = (
        "import json, pathlib, resource, signal, sys\n"
        "from node_agent.spool import Spool\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))\n"
        "gap = lambda seq, ranges, reason: json.dumps({'gap': ranges, 'reason': reason}).encode()\n"
        "spool = Spool(pathlib.Path(sys.argv[1]), 1 << 20, gap)\n"
        "for n in range(500): spool.append(lambda seq: b'%0200d' % seq, low=True)\n"
        "errors = spool.disk_errors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "for n in range(20): spool.append(lambda seq: b'%0200d' % seq, low=True)\n"
        "print(errors, spool.last_seq, spool.shed_records); spool.close()\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    errors, last, shed = map(int, done.stdout.split())
    assert errors > 0 and shed == 0
    assert [seq for seq, _ in read_spool(tmp_path / "s")] == list(range(1, last + 1)), "memory bridged it"


# --- death and return -------------------------------------------------------------------------------------------


def test_a_process_killed_outright_leaves_every_record_it_numbered(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from node_agent.spool import Spool\n"
        "spool = Spool(pathlib.Path(sys.argv[1]), 1 << 20, lambda *a: b'gap')\n"
        "while True:\n"
        "    seq = spool.append(lambda n: b'record %d' % n, low=spool.last_seq % 2 == 0)\n"
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
    found = read_spool(tmp_path)
    assert [seq for seq, _ in found][:last] == list(range(1, last + 1))
    assert found[last - 1][1] == b"record %d" % last


def test_the_next_process_takes_over_and_names_what_is_not_there(tmp_path: Path) -> None:
    first = opened(tmp_path, 8 * 4096)
    for n in range(400):
        first.append(lambda seq: b"%050d" % seq, low=n % 2 == 0)
        if n == 199:
            first.acknowledge(150)
    # No close: the process died. Its oldest segment may still hold acknowledged records.
    again = opened(tmp_path, 8 * 4096)
    records, shed, reasons = everything(again)
    assert records.keys() | shed == set(range(1, again.last_seq + 1))
    assert set(range(151, 401)) <= records.keys() and again.last_seq == 401
    assert reasons == ["not in the spool any more when the agent started again"] and max(shed) <= 150
    again.acknowledge(again.last_seq)
    again.close()
    first.close()


@given(
    st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=20), st.integers(0, 2000), st.booleans()
)
def test_a_torn_or_damaged_segment_gives_a_true_prefix(made: list[tuple[int, bool]], place: int, flip: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "s"
        spool = opened(folder)
        payloads = {}
        for size, low in made:
            payloads[spool.append(lambda seq, n=size: bytes([n]) * n, low)] = size  # type: ignore[misc]
        spool.close()
        path = sorted(folder.glob("*.spool"))[0]
        data = bytearray(path.read_bytes())
        if flip:
            data[place % len(data)] ^= 0x10
        else:
            del data[place % len(data) :]
        path.write_bytes(data)
        found = read_segment(path)
        if not flip:
            assert all(payload == bytes([payloads[seq]]) * payloads[seq] for seq, payload in found)
        whole = opened(folder)
        records, shed, _ = everything(whole)
        assert records.keys() | shed == set(range(1, whole.last_seq + 1))
        whole.close()


@settings(max_examples=50)
@given(st.sets(st.integers(1, 60)))
def test_ranges_hold_exactly_the_numbers(numbers: set[int]) -> None:
    ranges = ranges_of(numbers)
    assert {n for a, b in ranges for n in range(a, b + 1)} == numbers
    assert all(a <= b for a, b in ranges) and all(b + 1 < c for (_, b), (c, _) in pairwise(ranges))
