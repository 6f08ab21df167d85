"""Where the partitions of a disk or image lie: MBR and GPT, read without the kernel's help.

MBR: four 16-byte entries at 446. GPT: UEFI specification 2.10, section 5.3; header at sector 1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import msgspec

from hil_config.errors import DataFileError

SECTOR = 512
FAT_TYPES = frozenset({"01", "04", "06", "0b", "0c", "0e", "ef"})
GPT_FAT_TYPES = frozenset({"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"})
_EXTENDED = frozenset({0x05, 0x0F, 0x85})


class Partition(msgspec.Struct, frozen=True):
    """Bytes [begin, begin + size); `kind` is two hex digits (MBR) or a GUID (GPT)."""

    number: int
    begin: int
    size: int
    kind: str


def read_partitions(read: Callable[[int, int], bytes]) -> tuple[Partition, ...]:
    """The partition table of a disk; empty where there is none.

    Args:
        read: read(offset, length) gives bytes, fewer at the end of the disk.
    """
    boot = read(0, SECTOR)
    if len(boot) < SECTOR or boot[510:512] != b"\x55\xaa":
        return ()
    entries = [struct.unpack_from("<B3xB3xII", boot, 446 + 16 * index) for index in range(4)]
    if any(kind == 0xEE for _, kind, _, _ in entries):
        return _gpt(read)
    if any(status not in (0x00, 0x80) for status, _, _, _ in entries):
        return ()  # a FAT file system without a table has the same signature, and code here
    return tuple(
        Partition(number, first * SECTOR, count * SECTOR, f"{kind:02x}")
        for number, (_, kind, first, count) in enumerate(entries, 1)
        if kind and kind not in _EXTENDED and count
    )


def _gpt(read: Callable[[int, int], bytes]) -> tuple[Partition, ...]:
    header = read(SECTOR, SECTOR)
    if len(header) < 92 or header[:8] != b"EFI PART":
        return ()
    size = struct.unpack_from("<I", header, 12)[0]
    if not 92 <= size <= SECTOR:
        return ()
    (sum_,) = struct.unpack_from("<I", header, 16)
    if zlib.crc32(header[:16] + bytes(4) + header[20:size]) != sum_:
        return ()
    first, count, width = struct.unpack_from("<QII", header, 72)
    if not 128 <= width <= 4096 or count > 1024:
        return ()
    table = read(first * SECTOR, count * width)
    found = []
    for index in range(min(count, len(table) // width)):
        entry = table[index * width : (index + 1) * width]
        begin, end = struct.unpack_from("<QQ", entry, 32)
        if entry[:16] != bytes(16) and end >= begin:
            found.append(Partition(index + 1, begin * SECTOR, (end - begin + 1) * SECTOR, _guid(entry[:16])))
    return tuple(found)


def _guid(raw: bytes) -> str:
    a, b, c = struct.unpack_from("<IHH", raw)
    return f"{a:08x}-{b:04x}-{c:04x}-{raw[8:10].hex()}-{raw[10:].hex()}"


def boot_partition(parts: tuple[Partition, ...], where: str) -> Partition:
    """The first partition with a FAT type: what firmware and first-boot programs read.

    Raises:
        DataFileError: there is none.
    """
    for part in parts:
        if part.kind in FAT_TYPES or part.kind in GPT_FAT_TYPES:
            return part
    kinds = ", ".join(part.kind for part in parts) or "no partition table"
    raise DataFileError(f"{where}: no FAT partition to configure ({kinds})", "choose an image with a boot partition")
