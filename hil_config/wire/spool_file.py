"""The spool's segment format: what a node writes before it publishes, and what is left when it dies.

A record is 16 bytes of head (seq u64, length u32, CRC-32 u32, little-endian) and the payload, a `Record` message. The
checksum is over seq and payload: a number that a bit flip made up must not open a gap of 2^50 records. Segments are
named by their first seq and a letter for their lane: `a` what must not be lost, `z` what is shed first when room
runs out.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

_HEAD = struct.Struct("<QII")
HEAD_BYTES = _HEAD.size
SUFFIX = ".spool"
Lane = Literal["a", "z"]


def _checksum(seq: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(seq.to_bytes(8, "little")))


def pack_record(seq: int, payload: bytes) -> bytes:
    """The bytes of one record."""
    return _HEAD.pack(seq, len(payload), _checksum(seq, payload)) + payload


def unpack_record(data: bytes, at: int = 0) -> tuple[int, bytes] | None:
    """(seq, payload) of the record at offset `at`; None if it is cut or damaged."""
    if at + HEAD_BYTES > len(data):
        return None
    seq, length, crc = _HEAD.unpack_from(data, at)
    payload = data[at + HEAD_BYTES : at + HEAD_BYTES + length]
    return (seq, payload) if len(payload) == length and _checksum(seq, payload) == crc else None


def segment_name(first_seq: int, lane: Lane = "a") -> str:
    return f"{first_seq:020d}{lane}{SUFFIX}"


def segment_lane(path: Path) -> Lane:
    return "z" if path.name.endswith(f"z{SUFFIX}") else "a"


def scan_segment(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(offset, seq, payload) of every whole record; what follows the first damaged one is not trusted."""
    at = 0
    while (record := unpack_record(data, at)) is not None:
        yield (at, *record)
        at += HEAD_BYTES + len(record[1])


def read_segment(path: Path) -> list[tuple[int, bytes]]:
    """(seq, payload) of every whole record of one file."""
    return [(seq, payload) for _, seq, payload in scan_segment(path.read_bytes())]


def read_spool(folder: Path) -> list[tuple[int, bytes]]:
    """Every whole record of a spool folder by seq; nothing if there is no such folder."""
    return sorted(record for path in folder.glob(f"*{SUFFIX}") for record in read_segment(path))
