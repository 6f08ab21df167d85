"""Flashing against `dd` on the same device: whole images, and with a block map the bytes that matter.

Device: a direct-io loop device (root), else a file with O_DIRECT. Both write past the page cache, `dd` 4 MiB at a time,
and end with a sync; the verification pass of `hil flash` is timed apart, since `dd` has none.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from firmware_tools.flash.bmap import BlockMap, Range
from firmware_tools.flash.device import Target
from firmware_tools.flash.disk import FoundDisk, System, disks
from firmware_tools.flash.image import Image
from firmware_tools.flash.write import Written, write_image

SIZE, ROUNDS = 256 << 20, 7


@contextmanager
def _device(backing: Path) -> Iterator[FoundDisk]:
    done = None
    if os.geteuid() == 0:
        command = ["losetup", "--direct-io=on", "--find", "--show", str(backing)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done is None or done.returncode:
        yield FoundDisk(str(backing), False, SIZE)
        return
    try:
        yield next(one for one in disks(System()) if one.node == done.stdout.strip())
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def _flash(disk: FoundDisk, image: Image, block_map: BlockMap | None, sha256: str) -> Written:
    target = Target(disk)
    try:
        return write_image(target, image, block_map, image.inspect(), sha256, 0, lambda _: None, lambda *_: None)
    finally:
        target.close()


def _dd(image: Path, node: str, count: int) -> float:
    begin = time.perf_counter()
    subprocess.run(
        ["dd", f"if={image}", f"of={node}", "bs=4M", f"count={count}", "oflag=direct", "conv=fsync,notrunc"],
        check=True, capture_output=True,
    )  # fmt: skip
    return time.perf_counter() - begin


def _ratio(ours: Callable[[], Written], theirs: Callable[[], float]) -> tuple[float, float, float]:
    """Medians of interleaved rounds: (our write seconds, verify seconds, theirs)."""
    rounds = [(ours(), theirs()) for _ in range(ROUNDS)]
    return (
        statistics.median(one.write_s for one, _ in rounds),
        statistics.median(one.verify_s for one, _ in rounds),
        statistics.median(dd for _, dd in rounds),
    )


def run() -> None:
    """Interleaved rounds after one that is not counted (it lays the backing file out)."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        plain = folder / "board.img"
        data = os.urandom(SIZE)
        plain.write_bytes(data)
        backing = folder / "card.img"
        backing.write_bytes(bytes(SIZE))
        os.sync()
        image, sha256 = Image(str(plain)), hashlib.sha256(data).hexdigest()
        quarter = SIZE // 4
        part = Range(0, quarter, hashlib.sha256(data[:quarter]).hexdigest())
        with _device(backing) as disk:
            _flash(disk, image, None, sha256)
            _dd(plain, disk.node, SIZE >> 22)
            write_s, verify_s, dd_s = _ratio(
                lambda: _flash(disk, image, None, sha256), lambda: _dd(plain, disk.node, SIZE >> 22)
            )
            print(f"{SIZE >> 20} MiB to {disk.node}: hil flash {SIZE / write_s / 1e6:.0f} MB/s, dd "
                  f"{SIZE / dd_s / 1e6:.0f} MB/s, rate ratio {dd_s / write_s:.2f}; the verification dd lacks: "
                  f"{SIZE / verify_s / 1e6:.0f} MB/s")  # fmt: skip
            write_s, _, dd_s = _ratio(
                lambda: _flash(disk, image, BlockMap(SIZE, (part,)), sha256),
                lambda: _dd(plain, disk.node, quarter >> 22),
            )
            print(f"with a block map of a quarter: {quarter / write_s / 1e6:.0f} MB/s of bytes that matter, dd of "
                  f"those {quarter / dd_s / 1e6:.0f} MB/s, rate ratio {dd_s / write_s:.2f}")  # fmt: skip
        print(f"medians of {ROUNDS} interleaved rounds")


if __name__ == "__main__":
    run()
