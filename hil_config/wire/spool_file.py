"""The spool's segment format: what a node writes before it publishes, and what is left when it dies.

A record is 16 bytes of head (seq u64, length u32, CRC-32 of the payload u32, little-endian) and the payload, a
`Record` message. Segments are named by their first seq and read in name order.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

_HEAD = struct.Struct("<QII")
SUFFIX = ".spool"


def pack_record(seq: int, payload: bytes) -> bytes:
    """The bytes of one record."""
    return _HEAD.pack(seq, len(payload), zlib.crc32(payload)) + payload


def segment_name(first_seq: int) -> str:
    return f"{first_seq:020d}{SUFFIX}"


def read_segment(path: Path) -> list[tuple[int, bytes]]:
    """(seq, payload) of every whole record; what follows the first damaged one is not trusted."""
    data = path.read_bytes()
    records, at = [], 0
    while at + _HEAD.size <= len(data):
        seq, length, crc = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        if len(payload) < length or zlib.crc32(payload) != crc:
            break
        records.append((seq, payload))
        at += _HEAD.size + length
    return records


def read_spool(folder: Path) -> list[tuple[int, bytes]]:
    """Every whole record of a spool folder in order; nothing if there is no such folder."""
    return [record for path in sorted(folder.glob(f"*{SUFFIX}")) for record in read_segment(path)]
