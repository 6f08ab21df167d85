"""Write an image, read it back past the cache, and only then make it bootable.

Order: the first block is set to zeros, all others are written and synced, read back and compared; then the first
block is written, synced and compared. A cut at any point leaves a disk that does not boot, or no receipt.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import IO, Any, Literal, NamedTuple

import msgspec

from firmware_tools.flash.bmap import BlockMap, Range
from firmware_tools.flash.device import Target, aligned_buffer
from firmware_tools.flash.image import BLOCK, Facts, Image, fill
from hil_config.errors import ArtefactError, HardwareError, SafetyRefusal

SYNC_EVERY, SYNC_S = 64 << 20, 2.0
"""A sync costs a fast disk its stride: one after so many bytes, and not before so many seconds."""

BUFFERS = 2
"""One is filled while the other is written."""
TAIL = 1 << 20
"""Set to zeros at the end of a disk: a backup partition table of what was there before would lie in it."""

Phase = Literal["write", "verify"]
Progress = Callable[[Phase, int, int | None], None]


class Written(msgspec.Struct, frozen=True):
    """What was done. `kept` bytes were there already and were compared instead of written."""

    size: int
    sha256: str
    mapped: int
    written: int
    kept: int
    readback: str
    write_s: float
    verify_s: float


class _Stopped(Exception):
    """The writing side has given up."""


class _Piece(NamedTuple):
    """Bytes of the image that belong at `offset`; padded with zeros to `padded`, whole sectors."""

    offset: int
    length: int
    padded: int
    digest: bytes


class _Job(NamedTuple):
    """What the writing side and the reading thread share."""

    target: Target
    image: Image
    block_map: BlockMap | None
    facts: Facts | None
    block: int


def write_image(
    target: Target,
    image: Image,
    block_map: BlockMap | None,
    facts: Facts | None,
    sha256: str,
    resume_to: int,
    reached: Callable[[int], None],
    show: Progress,
    block: int = BLOCK,
) -> Written:
    """Write and verify.

    Args:
        facts: from an inspection of the image with this `block`; without them everything is hashed on its way.
        sha256: of the unpacked image or of the published file.
        resume_to: bytes below were written before: they are compared and only repaired.
        reached: told after each sync how far the disk is good.
        block: size of a transfer in bytes, a multiple of 4096.

    Raises:
        ArtefactError: the image is damaged or is another one. HardwareError: the disk fails or lies.
        SafetyRefusal, EnvironmentFault: see `Target`.
    """
    job = _Job(target, image, block_map, facts if facts and facts.block == block else None, block)
    before = image.fingerprint()
    zeros = aligned_buffer(block)
    first = aligned_buffer(block)
    begin = time.monotonic()
    total = block_map.mapped if block_map else image.stated_size()
    _clear_boot_block(target, zeros, block)
    pieces, found, kept = _write_all(job, first, resume_to, reached, lambda done: show("write", done, total))
    if sha256 not in found:
        raise ArtefactError(
            f"{image.source}: SHA-256 {found[0]}, wanted {sha256}", "the disk does not boot; start again"
        )
    target.sync()
    size = max(piece.offset + piece.length for piece in pieces)
    if block_map is not None:
        size = block_map.image_size
    if target.disk.block and target.disk.size and target.disk.size >= size + 2 * TAIL:
        target.write(zeros[:TAIL] if block >= TAIL else aligned_buffer(TAIL), target.disk.size - TAIL)
        target.sync()
    reached(size)
    middle = time.monotonic()
    mapped = sum(piece.length for piece in pieces)
    _verify(job, pieces, before, lambda done: show("verify", done, mapped))
    _finish(target, pieces, first, block)
    target.truncate(size)
    target.sync()
    end = time.monotonic()
    return Written(size, found[0], mapped, mapped - kept, kept, target.readback, middle - begin, end - middle)


def _clear_boot_block(target: Target, zeros: memoryview, block: int) -> None:
    """What boots now is gone before anything else is written. Smaller disks than a block get what they hold."""
    size = target.disk.size
    length = block if size is None else min(block, size // target.sector * target.sector)
    target.write(zeros[:length], 0)
    target.sync()


def _write_all(
    job: _Job, first: memoryview, resume_to: int, reached: Callable[[int], None], show: Callable[[int], None]
) -> tuple[list[_Piece], list[str], int]:
    """(pieces, [SHA-256 of the image, of the published file], bytes that were there already)."""
    pieces: list[_Piece] = []
    found: list[str] = []
    kept = done = unsynced = 0
    synced = time.monotonic()
    compared = aligned_buffer(job.block)
    with closing(_read_ahead(job, found)) as blocks:
        for buffer, piece in blocks:
            done += piece.length
            if piece.offset == 0:
                first[: piece.padded] = buffer[: piece.padded]
            elif piece.offset + piece.length <= resume_to and _equal(job.target, compared, buffer, piece):
                kept += piece.length
            else:
                _check_room(job, piece)
                job.target.write(buffer[: piece.padded], piece.offset)
                unsynced += piece.padded
            pieces.append(piece)
            if unsynced >= SYNC_EVERY and time.monotonic() - synced >= SYNC_S:
                job.target.sync()
                reached(piece.offset + piece.length)
                unsynced, synced = 0, time.monotonic()
            show(done)
    if not pieces:
        raise ArtefactError(f"{job.image.source}: is empty", "get the image again")
    return pieces, found, kept


def _check_room(job: _Job, piece: _Piece) -> None:
    """For images whose size is known only when they have been unpacked."""
    if job.target.disk.size is not None and piece.offset + piece.length > job.target.disk.size:
        raise SafetyRefusal(
            f"{job.image.source}: does not fit, {job.target.disk.node} holds {job.target.disk.size} bytes",
            "use a larger card; this one does not boot now",
        )


def _equal(target: Target, compared: memoryview, buffer: memoryview, piece: _Piece) -> bool:
    count = target.read(compared[: piece.padded], piece.offset)
    return count == piece.padded and compared[: piece.padded] == buffer[: piece.padded]


def _read_ahead(job: _Job, found: list[str]) -> Generator[tuple[memoryview, _Piece], None, None]:
    """Unpack and hash in a thread of its own while the disk writes."""
    free: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
    full: queue.SimpleQueue[tuple[memoryview, _Piece] | BaseException | None] = queue.SimpleQueue()
    for _ in range(BUFFERS):
        free.put(aligned_buffer(job.block))

    def work() -> None:
        try:
            _fill(job, free, full, found)
            full.put(None)
        except BaseException as error:  # handed to the side that writes, which raises it
            full.put(error)

    thread = threading.Thread(target=work, name="image reader")
    thread.start()
    try:
        while (item := full.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            free.put(item[0])
    finally:
        free.put(None)
        for _ in range(BUFFERS):
            free.put(None)
        thread.join()


def _take(free: Any) -> memoryview:
    buffer: memoryview | None = free.get()
    if buffer is None:
        raise _Stopped
    return buffer


def _fill(job: _Job, free: Any, full: Any, found: list[str]) -> None:
    """Blocks of the image, those outside the map left out. A plain file's holes are not even read."""
    whole = None if job.facts else hashlib.sha256()
    ranges = job.block_map.ranges if job.block_map else None
    skip = ranges is not None and not job.image.packing and not job.image.remote and all(r.sha256 for r in ranges)
    with job.image.stream(published=job.facts is None) as (content, published):
        if ranges is not None and skip:
            for one in ranges:
                _fill_range(job, content, one, free, full)
            found += _known(job)
            return
        at = 0
        while True:
            buffer = _take(free)
            count = fill(content, buffer)
            if whole is not None:
                whole.update(buffer[:count])
            sent = _send(job, buffer, at, count, ranges, free, full)
            if not sent:
                free.put(buffer)
            at += count
            if count < len(buffer):
                break
        found += [whole.hexdigest(), published()] if whole is not None else _known(job)


def _known(job: _Job) -> list[str]:
    facts = job.facts or job.image.inspect()
    return [facts.sha256, facts.file_sha256]


def _fill_range(job: _Job, content: IO[bytes], one: Range, free: Any, full: Any) -> None:
    digest = hashlib.sha256()  # of the source: a map of another image must not look like a failing card
    content.seek(one.begin)
    at = one.begin
    while at < one.end:
        buffer = _take(free)
        step = min(job.block - at % job.block, one.end - at)
        if fill(content, buffer[:step]) < step:
            raise ArtefactError(f"{job.image.source}: ends at byte {at}, its block map goes on", "get both again")
        digest.update(buffer[:step])
        full.put((buffer, _piece(job, buffer, at, step)))
        at += step
    if digest.hexdigest() != one.sha256:
        raise ArtefactError(
            f"{job.image.source}: bytes {one.begin} to {one.end}: SHA-256 {digest.hexdigest()}, "
            f"its block map says {one.sha256}",
            "get image and block map again",
        )


def _send(
    job: _Job, buffer: memoryview, at: int, count: int, ranges: tuple[Range, ...] | None, free: Any, full: Any
) -> bool:
    """Hand over the mapped parts of a block, in buffers of their own; False if `buffer` itself was not handed over."""
    if count == 0:
        return False
    if ranges is None:
        full.put((buffer, _piece(job, buffer, at, count)))
        return True
    parts = [(max(r.begin, at), min(r.end, at + count)) for r in ranges if r.begin < at + count and r.end > at]
    if parts == [(at, at + count)]:
        full.put((buffer, _piece(job, buffer, at, count)))
        return True
    for begin, end in parts:
        copy = _take(free)
        copy[: end - begin] = buffer[begin - at : end - at]
        full.put((copy, _piece(job, copy, begin, end - begin)))
    return False


def _piece(job: _Job, buffer: memoryview, at: int, count: int) -> _Piece:
    padded = -(-count // job.target.sector) * job.target.sector
    buffer[count:padded] = bytes(padded - count)
    whole = at % job.block == 0 and (count == job.block or (job.facts is not None and at + count == job.facts.size))
    if job.facts is not None and whole and at // job.block < len(job.facts.blocks):
        return _Piece(at, count, padded, bytes.fromhex(job.facts.blocks[at // job.block]))
    return _Piece(at, count, padded, hashlib.sha256(buffer[:count]).digest())


def _verify(job: _Job, pieces: list[_Piece], before: str, show: Callable[[int], None]) -> None:
    """Compare everything but the first block with the image; all differences are counted before it fails."""
    target, buffer = job.target, aligned_buffer(job.block)
    wrong: list[_Piece] = []
    done = 0
    for piece in pieces:
        done += piece.length
        if piece.offset == 0:
            continue
        count = target.read(buffer[: piece.padded], piece.offset)
        if hashlib.sha256(buffer[: min(count, piece.length)]).digest() != piece.digest:
            wrong.append(piece)
        show(done)
    if job.image.fingerprint() != before:
        raise ArtefactError(f"{job.image.source}: was changed while it was written", "run the command again")
    if wrong:
        raise HardwareError(
            f"{target.disk.node}: read back differs from what was written in {len(wrong)} of {len(pieces)} blocks, "
            f"the first at byte {wrong[0].offset}: worn, counterfeit or failing",
            "use another card; running the command again rewrites the bad blocks",
        )


def _finish(target: Target, pieces: list[_Piece], first: memoryview, block: int) -> None:
    if not pieces or pieces[0].offset != 0:
        return
    piece = pieces[0]
    target.write(first[: piece.padded], 0)
    target.sync()
    buffer = aligned_buffer(block)
    count = target.read(buffer[: piece.padded], 0)
    if hashlib.sha256(buffer[: min(count, piece.length)]).digest() != piece.digest:
        raise HardwareError(f"{target.disk.node}: the first block reads back differently", "use another card")
