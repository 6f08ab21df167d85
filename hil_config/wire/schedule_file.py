"""The file of a link schedule.

Layout: 8 bytes magic, u32 header length, JSON header (padded with blanks to 16 bytes), the arrays of
`ScheduleArrays` back to back, 32 bytes SHA-256 of all before it. Little-endian, bounded, self-describing: the
header embeds the configuration and the elements. Records stand as in `link_schedule`, so the file can be
streamed and sought.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hil_config.errors import DataFileError
from hil_config.wire.link_schedule import HINT, LIGHT, LINK, LinkSchedule, ScheduleArrays, ScheduleHeader
from hil_config.wire.mapped_file import map_file

MAGIC = b"HILSCHD2"
MAX_FILE_BYTES = 2 << 30
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32
_ALIGN = 16
_DTYPES = {
    "links": LINK, "lights": LIGHT, "track_time_s": np.dtype("<f8"), "track_position_km": np.dtype("<f4"),
    "track_velocity_km_s": np.dtype("<f4"), "route_first": np.dtype("<u4"), "route_node": np.dtype("<u4"),
}  # fmt: skip


def encode_schedule(schedule: LinkSchedule) -> bytes:
    """The file's bytes; the same schedule always gives the same bytes."""
    header = msgspec.json.encode(schedule.header)
    start = len(MAGIC) + _LENGTH.size
    header += b" " * (-(start + len(header)) % _ALIGN)
    parts: list[Any] = [MAGIC, _LENGTH.pack(len(header)), header]
    for name, dtype in _DTYPES.items():
        parts.append(np.ascontiguousarray(getattr(schedule.arrays, name), dtype=dtype).reshape(-1).view(np.uint8).data)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return b"".join([*parts, digest.digest()])


def schedule_hash(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def decode_schedule(data: bytes | memoryview, where: str = "schedule") -> LinkSchedule:
    """The schedule in `data`, or DataFileError naming `where`. Nothing is copied: the arrays look into `data`."""
    view = memoryview(data)
    size = len(view)
    if size > MAX_FILE_BYTES or size < len(MAGIC) + _LENGTH.size + _DIGEST_BYTES or bytes(view[:8]) != MAGIC:
        raise DataFileError(f"{where}: not a link schedule (starts {bytes(view[:8])!r}, {size} bytes)", HINT)
    if hashlib.sha256(view[:-_DIGEST_BYTES]).digest() != bytes(view[-_DIGEST_BYTES:]):
        raise DataFileError(f"{where}: its checksum does not match: the file is cut or was changed", HINT)
    (length,) = _LENGTH.unpack_from(view, len(MAGIC))
    start = len(MAGIC) + _LENGTH.size + length
    try:
        header = msgspec.json.decode(view[start - length : start], type=ScheduleHeader)
    except ValueError as error:
        raise DataFileError(f"{where}: header: {error}", HINT) from error
    end, arrays = size - _DIGEST_BYTES, {}
    for name, dtype in _DTYPES.items():
        shape = header.shapes.get(name, ())
        if not shape or min(shape) < 0:
            raise DataFileError(f"{where}: header: {name} has shape {shape}", HINT)
        needed = dtype.itemsize
        for extent in shape:
            needed *= extent
        if start + needed > end:
            raise DataFileError(f"{where}: {name} needs {needed} bytes at {start}, the file is shorter", HINT)
        count = needed // dtype.itemsize
        arrays[name] = np.frombuffer(view, dtype, count, start).reshape(shape) if count else np.empty(shape, dtype)
        start += needed
    if start != end:
        raise DataFileError(f"{where}: {end - start} bytes after the last array", HINT)
    return LinkSchedule(header, ScheduleArrays(**arrays))


def read_schedule(path: Path) -> tuple[LinkSchedule, bytes]:
    """A schedule file and its bytes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}", HINT) from error
    return decode_schedule(data, str(path)), data


def map_schedule(path: Path) -> LinkSchedule:
    """A schedule whose arrays stay in the file: pages are read when they are looked at."""
    try:
        data = map_file(path)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise DataFileError(f"{path}: cannot be mapped: {error}", HINT) from error
    return decode_schedule(data, str(path))
