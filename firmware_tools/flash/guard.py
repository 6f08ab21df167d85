"""What must never be overwritten: the machine's own disks, and whatever somebody uses or may want back."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from firmware_tools.flash.disk import FoundDisk, System
from firmware_tools.flash.partitions import read_partitions
from hil_config.errors import HardwareError, SafetyRefusal

_SIGNS: tuple[tuple[str, int, bytes], ...] = (
    ("an LVM physical volume", 512, b"LABELONE"),
    ("an LVM physical volume", 0, b"LABELONE"),
    ("a member of a RAID array", 4096, b"\xfc\x4e\x2b\xa9"),  # Linux md 1.2; 1.1 is at 0
    ("a member of a RAID array", 0, b"\xfc\x4e\x2b\xa9"),
    ("an encrypted volume", 0, b"LUKS\xba\xbe"),
    ("swap space", 4086, b"SWAPSPACE2"),
    ("swap space", 65_526, b"SWAPSPACE2"),  # 64 kB pages, as on some ARM kernels
)
"""(what it is, offset in a disk or partition, bytes)."""


def check_target(disk: FoundDisk, max_bytes: int, system: System) -> None:
    """Refuse a disk that is in use, holds what nobody overwrites lightly, or is not what a bench has.

    Raises:
        SafetyRefusal: with every reason found. HardwareError: no medium, or write-protected.
    """
    reasons = list(_file_reasons(disk, system) if not disk.block else _block_reasons(disk, max_bytes, system))
    if reasons:
        raise SafetyRefusal(f"{disk.node} is not written: {'; '.join(reasons)}", _hint(reasons, disk))
    if disk.block and disk.size == 0:
        raise HardwareError(f"{disk.node}: no medium in it", "insert the card")
    if disk.block and _read(system.sys / "block" / disk.name / "ro") == "1":
        raise HardwareError(f"{disk.node}: is write-protected", "move the card's lock, or detach the read-only loop")


def check_fits(disk: FoundDisk, size: int, source: str) -> None:
    """SafetyRefusal if `size` bytes do not fit."""
    if disk.size is not None and size > disk.size:
        raise SafetyRefusal(
            f"{source} is {size} bytes, {disk.node} holds {disk.size}: {size - disk.size} too few",
            "use a larger card or a smaller image; nothing was written",
        )


def check_not_image(disk: FoundDisk, image: Path) -> None:
    """SafetyRefusal if `image` is what would be overwritten, whatever links lead there."""
    for place in (disk.node, disk.backing_file):
        try:
            same = bool(place) and os.path.samefile(place, image)
        except OSError:
            continue  # one of them is not there
        if same:
            raise SafetyRefusal(
                f"{image} is {place}, the board's own disk: it would be overwritten while it is read",
                "copy the image elsewhere, or mend `disk` in the bench file",
            )


def _block_reasons(disk: FoundDisk, max_bytes: int, system: System) -> Iterator[str]:
    folder = system.sys / "block" / disk.name
    if not folder.exists():
        yield "it is not a whole disk"
        return
    used = {**_mounted(system), **_swapped(system)}
    for number, use in used.items():
        if disk.number in _whole_disks(number, system):
            yield use
    for part in (folder, *sorted(folder.glob(f"{disk.name}*"))):
        holders = sorted(path.name for path in (part / "holders").glob("*"))
        if holders:
            yield f"{part.name} is held by {', '.join(holders)}"
    if disk.size and disk.size > max_bytes:
        yield f"it has {disk.size / 1e9:.0f} GB, more than max_gb {max_bytes / 1e9:g} of the bench file"
    yield from _signatures(disk)


def _file_reasons(disk: FoundDisk, system: System) -> Iterator[str]:
    path = os.path.realpath(disk.node)
    for folder in (system.sys / "block").glob("loop*"):
        if _read(folder / "loop" / "backing_file") == path:
            yield f"{system.dev / folder.name} is attached to it"


def _signatures(disk: FoundDisk) -> Iterator[str]:
    try:
        with open(disk.node, "rb", buffering=0) as file:

            def read(offset: int, length: int) -> bytes:
                return os.pread(file.fileno(), length, offset)

            yield from _signatures_at(read, 0, "it")
            for part in read_partitions(read):
                yield from _signatures_at(read, part.begin, f"its partition {part.number}")
    except OSError as error:
        yield f"it cannot be examined: {error.strerror}"


def _signatures_at(read: Callable[[int, int], bytes], begin: int, name: str) -> Iterator[str]:
    for what, offset, sign in _SIGNS:
        if read(begin + offset, len(sign)) == sign:
            yield f"{name} holds {what}"
            return


def _mounted(system: System) -> dict[str, str]:
    """Device number -> how it is used. The source is looked at too: btrfs shows a number that no disk has."""
    found = {}
    for line in _read(system.proc / "self" / "mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        words, source = fields.split(), (rest.split() + ["", ""])[1]
        if len(words) < 5:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), words[4])
        use = (
            f"it holds the system ({place})" if place in ("/", "/boot", "/usr", "/var") else f"it is mounted on {place}"
        )
        for number in (words[2], _number(source)):
            if number and (number not in found or place == "/"):
                found[number] = use
    return found


def _swapped(system: System) -> dict[str, str]:
    rows = _read(system.proc / "swaps").splitlines()[1:]
    return {number: "it holds swap in use" for row in rows if (number := _number(row.split()[0]))}


def _number(node: str) -> str:
    """major:minor of a device node, or of the file system that a swap file lies on."""
    if not node.startswith("/"):
        return ""
    try:
        status = os.stat(node)
    except OSError:
        return ""
    device = status.st_rdev or status.st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def _whole_disks(number: str, system: System) -> set[str]:
    """Numbers of the disks below a device: partition to disk, LVM, RAID or crypt device to its parts."""
    link = system.sys / "dev" / "block" / number
    if not link.exists():
        return {number}
    folder = link.resolve()
    if (folder / "partition").exists():
        folder = folder.parent
    below = {_read(folder / "dev")}
    for slave in (folder / "slaves").glob("*"):
        below |= _whole_disks(_read(slave / "dev"), system)
    return below


def _hint(reasons: list[str], disk: FoundDisk) -> str:
    text = "; ".join(reasons)
    if "the system" in text:
        return "this is the machine's own disk: mend `disk` in the bench file"
    if "mounted" in text:
        return f"if it is the board's card: umount {disk.node}*"
    if "attached" in text:
        return f"detach it first: losetup -j {disk.node}"
    if "holds" in text:
        return f"if nobody needs what is on it: wipefs --all {disk.node}"
    return "mend `disk` in the bench file"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
