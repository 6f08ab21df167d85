"""A flash that ends in success was read back and is equal; every other end says what was wrong."""

from __future__ import annotations

import fcntl
import gzip
import lzma
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from firmware_tools.flash import image as packed
from firmware_tools.flash.image import Image
from firmware_tools.flash.job import Receipt
from hil_config.errors import ArtefactError, DataFileError, HilError, SafetyRefusal
from tests.firmware.flash.desk import BLOCK, Bench

CUTS = 100
CARD = 3_000_320
CHILD = Path(__file__).with_name("cut_child.py")
ROOT = Path(__file__).resolve().parents[3]
Hash = Callable[[Path], str]


def pack(image: Path, packing: str) -> Path:
    data, path = image.read_bytes(), image.with_name(f"{image.name}.{packing}")
    if packing == "xz":
        path.write_bytes(lzma.compress(data, preset=0))
    elif packing == "zst":
        path.write_bytes(packed.zstd.compress(data[:1000]) + packed.zstd.compress(data[1000:]))  # two frames
    elif packing == "gz":
        path.write_bytes(gzip.compress(data, 1))
    elif packing == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README", "text")
            archive.writestr("board.img", data)
    else:
        return image
    return path


@pytest.mark.parametrize("packing", ["", "xz", "zst", "gz", "zip"])
def test_every_packing(bench: Bench, packing: str, sha256: Hash) -> None:
    source = pack(bench.image, packing)
    receipt = bench.flash(source, size_gb=0.01)
    size = bench.image.stat().st_size
    assert bench.card.stat().st_size == 0.01 * 1e9 // 512 * 512
    assert bench.card.read_bytes()[:size] == bench.image.read_bytes()
    assert receipt.result.sha256 == sha256(bench.image)
    assert (receipt.verified, receipt.result.written, receipt.result.kept) == (True, size, 0)
    assert msgspec.json.decode(bench.receipts()[0].read_bytes(), type=Receipt) == receipt
    assert bench.flash(source, sha256=sha256(source)).result.size == size
    assert bench.flash(source, sha256=sha256(bench.image).upper()).result.size == size


def test_the_file_of_a_card_without_a_size_is_the_image(bench: Bench, sha256: Hash) -> None:
    bench.flash()
    assert bench.card.read_bytes() == bench.image.read_bytes()


@pytest.mark.parametrize("packing", ["xz", "zst", "gz", "zip"])
@pytest.mark.parametrize("left", [0.3, 0.999])
def test_a_cut_archive_is_refused_before_the_card_is_touched(bench: Bench, packing: str, left: float) -> None:
    source = pack(bench.image, packing)
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * left)])
    with pytest.raises(ArtefactError) as caught:
        bench.flash(source)
    assert str(source) in caught.value.message
    assert not bench.card.exists() and bench.receipts() == []


@pytest.mark.parametrize("packing", ["xz", "zst", "gz", "zip"])
def test_a_flipped_bit_in_an_archive(bench: Bench, packing: str) -> None:
    source = pack(bench.image, packing)
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 16
    source.write_bytes(data)
    if packing == "zst":  # no checksum inside unless asked for: the published hash is what finds it
        with pytest.raises(ArtefactError):
            bench.flash(source, sha256="0" * 64)
    else:
        with pytest.raises(ArtefactError):
            bench.flash(source)
    assert not bench.card.exists()


def test_a_wrong_hash(bench: Bench, sha256: Hash) -> None:
    with pytest.raises(ArtefactError) as caught:
        bench.flash(sha256="ab" * 32)
    assert sha256(bench.image) in caught.value.message and "ab" * 32 in caught.value.message
    assert not bench.card.exists()


def test_an_image_that_changes_after_it_was_inspected(bench: Bench) -> None:
    job = bench.job()
    plan = job.plan()
    data = bytearray(bench.image.read_bytes())
    data[-1] ^= 1
    bench.image.write_bytes(data)
    with pytest.raises(ArtefactError, match="changed"):
        job.run(plan, lambda *_: None)
    assert bench.receipts() == []


def test_an_image_that_changes_while_it_is_written(bench: Bench) -> None:
    def show(phase: str, done: int, total: int | None) -> None:
        if done == BLOCK:  # the reader is a few blocks ahead
            with open(bench.image, "r+b") as file:
                file.seek(-1, 2)
                file.write(b"\0")

    job = bench.job()
    with pytest.raises(ArtefactError, match="changed"):
        job.run(job.plan(), show)
    assert bench.card.read_bytes()[:BLOCK] == bytes(BLOCK), "what boots is written last"
    assert bench.receipts() == []


def test_an_image_larger_than_the_card(bench: Bench) -> None:
    with pytest.raises(SafetyRefusal) as caught:
        bench.flash(size_gb=0.001)
    assert f"{bench.image.stat().st_size} bytes" in caught.value.message
    assert not bench.card.exists()


def test_no_image_and_an_empty_one(bench: Bench) -> None:
    with pytest.raises(DataFileError):
        bench.flash(bench.folder / "nothing.img")
    bench.image.write_bytes(b"")
    with pytest.raises(ArtefactError, match="empty"):
        bench.flash()


def test_a_card_that_somebody_has_locked(bench: Bench) -> None:
    bench.card.write_bytes(bytes(1 << 22))
    code = "import fcntl,sys;f=open(sys.argv[1],'r+');fcntl.lockf(f,fcntl.LOCK_EX);print(1,flush=True);sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(bench.card)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        with pytest.raises(SafetyRefusal, match="locked"):
            bench.flash()
    finally:
        holder.communicate()
    assert bench.receipts() == []


def test_two_commands_on_one_board(bench: Bench) -> None:
    with bench.state.busy("alpha", "hil power off"), pytest.raises(SafetyRefusal, match="hil power off"):
        bench.flash()


def test_hundred_cuts(bench: Bench) -> None:
    """Killed at a random point, a flash leaves no receipt; unless it was at its very end, the card does not boot.

    Every card is then flashed again, over what the cut has left and with a byte spoiled meanwhile.
    """
    data = bench.image.read_bytes()
    reports = 2 * -(-len(data) // BLOCK) - 1
    chance = random.Random(7)
    kept = 0
    command = [sys.executable, str(CHILD), str(bench.card), str(bench.image), str(bench.folder / "bench.yaml")]
    with subprocess.Popen(
        [*command, str(BLOCK)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as children:  # fmt: skip
        assert children.stdin is not None and children.stdout is not None
        for _ in range(CUTS):
            bench.card.write_bytes(b"\xff" * CARD)
            print(chance.randrange(reports), file=children.stdin, flush=True)
            assert children.stdout.readline() == "-9\n"
            assert bench.receipts() == [], "success without proof"
            assert bench.card.read_bytes()[:BLOCK] == bytes(BLOCK), "an unverified card would boot"
            spoiled = bytearray(bench.card.read_bytes())
            spoiled[chance.randrange(BLOCK, len(data))] ^= 1
            bench.card.write_bytes(spoiled)
            receipt = bench.flash()
            kept += receipt.result.kept
            assert bench.card.read_bytes()[: len(data)] == data
            assert len(bench.receipts()) == 1
            bench.receipts()[0].unlink()
        children.stdin.close()
    assert kept > 0, "no rerun resumed"


def test_a_rerun_compares_what_was_good_and_repairs_what_is_not(bench: Bench) -> None:
    class Stop(HilError):
        pass

    def show(phase: str, done: int, total: int | None) -> None:
        if phase == "verify":
            raise Stop("power cut")

    job = bench.job()
    with pytest.raises(Stop):
        job.run(job.plan(), show)
    assert job.plan().resumes_at == bench.image.stat().st_size
    spoiled = bytearray(bench.card.read_bytes())
    spoiled[5 * BLOCK + 17] ^= 1
    bench.card.write_bytes(spoiled)
    receipt = bench.flash()
    assert receipt.result.written == 2 * BLOCK  # the spoiled block and the first
    size = bench.image.stat().st_size
    assert bench.card.read_bytes()[:size] == bench.image.read_bytes()
    assert bench.job().plan().resumes_at == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system of a few kilobytes takes root")
def test_a_full_disk(bench: Bench, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], check=False)
    if done.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        small = bench._replace(card=place / "card.img")
        with pytest.raises(HilError) as caught:
            small.flash()
        assert caught.value.exit_code == 9 and "free space" in caught.value.hint
        assert bench.receipts() == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_stated_size_is_only_a_statement(bench: Bench) -> None:
    assert Image(str(bench.image)).stated_size() == bench.image.stat().st_size
    whole = bench.folder / "whole.zst"
    whole.write_bytes(packed.zstd.compress(bench.image.read_bytes()))
    assert Image(str(whole)).stated_size() == bench.image.stat().st_size
    assert Image(str(pack(bench.image, "xz"))).stated_size() is None
    assert Image(str(pack(bench.image, "xz"))).inspect().size == bench.image.stat().st_size


def test_locks_end_with_their_holder(bench: Bench) -> None:
    with bench.state.busy("alpha", "one"):
        pass
    with bench.state.busy("alpha", "two"), open(bench.state.path("locks", "alpha", ".lock")) as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert file.read().startswith("two")
