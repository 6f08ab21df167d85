"""The link schedule file: what each link and each satellite does at each instant, compiled offline.

Layout: 8 bytes magic, u32 header length, JSON header, the arrays back to back, 32 bytes SHA-256 of all
before it. Little-endian. Bounded, self-describing: the header embeds the configuration and the source of
the elements. Between samples delay is interpolated linearly; rate, loss and up hold until the next sample.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hil_config.errors import DataFileError

MAGIC = b"HILSCHD1"
MAX_FILE_BYTES = 256 << 20
_LENGTH = struct.Struct("<I")
_HINT = "compile it again: hil schedule build"
_ARRAYS: tuple[tuple[str, str], ...] = (
    ("time_s", "<f8"),
    ("delay_s", "<f4"),
    ("rate_bit_s", "<f4"),
    ("loss", "<f4"),
    ("up", "|u1"),
    ("sunlight", "<f4"),
    ("position_km", "<f4"),
)


class ScheduleHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`pairs[p]` is a directed (from, to) pair of satellite names; `config` is what was compiled, as JSON text."""

    version: int
    epoch_utc: str
    satellites: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    samples: int
    source: str
    config: str


class LinkState(NamedTuple):
    """One directed link at one instant: seconds, bit/s, probability, and whether it exists."""

    delay_s: float
    rate_bit_s: float
    loss: float
    up: bool


DOWN = LinkState(0.0, 0.0, 1.0, False)


class LinkSchedule:
    """A compiled schedule in memory.

    Args:
        time_s: [N] scenario seconds, strictly rising, from 0.
        delay_s, rate_bit_s, loss: [N, P]; up: [N, P] of 0 or 1.
        sunlight: [N, S] illuminated fraction of the Sun's disc, 0 to 1.
        position_km: [N, S, 3] in the frame named in the header's config.
    """

    def __init__(
        self,
        header: ScheduleHeader,
        time_s: NDArray[np.float64],
        delay_s: NDArray[np.float32],
        rate_bit_s: NDArray[np.float32],
        loss: NDArray[np.float32],
        up: NDArray[np.uint8],
        sunlight: NDArray[np.float32],
        position_km: NDArray[np.float32],
    ) -> None:
        self.header = header
        self.time_s = time_s
        self.delay_s = delay_s
        self.rate_bit_s = rate_bit_s
        self.loss = loss
        self.up = up
        self.sunlight = sunlight
        self.position_km = position_km
        self._pair = {pair: index for index, pair in enumerate(header.pairs)}
        self._satellite = {name: index for index, name in enumerate(header.satellites)}
        self._times: list[float] = time_s.tolist()
        self._check()

    def _check(self) -> None:
        n, p, s = self.header.samples, len(self.header.pairs), len(self.header.satellites)
        shapes = {
            "time_s": (n,), "delay_s": (n, p), "rate_bit_s": (n, p), "loss": (n, p), "up": (n, p),
            "sunlight": (n, s), "position_km": (n, s, 3),
        }  # fmt: skip
        for name, wanted in shapes.items():
            array = getattr(self, name)
            if array.shape != wanted:
                raise DataFileError(f"schedule: {name} has shape {array.shape}, wanted {wanted}", _HINT)
            if not np.isfinite(array).all():
                raise DataFileError(f"schedule: {name} holds a value that is not finite", _HINT)
        if n < 2 or self._times[0] != 0.0 or not (np.diff(self.time_s) > 0).all():
            raise DataFileError("schedule: times must start at 0 and rise; at least two samples", _HINT)
        if (self.delay_s < 0).any() or (self.rate_bit_s < 0).any():
            raise DataFileError("schedule: a delay or rate is below 0", _HINT)
        if ((self.loss < 0) | (self.loss > 1)).any() or ((self.sunlight < 0) | (self.sunlight > 1)).any():
            raise DataFileError("schedule: a loss or illumination is outside 0..1", _HINT)
        for pair in self.header.pairs:
            if not set(pair) <= set(self.header.satellites):
                raise DataFileError(f"schedule: pair {pair} names an unknown satellite", _HINT)

    @property
    def duration_s(self) -> float:
        return self._times[-1]

    def _at(self, t: float) -> tuple[int, float]:
        """Index of the sample at or before t and the fraction of the way to the next; clamped at both ends."""
        if t <= 0.0:
            return 0, 0.0
        if t >= self._times[-1]:
            return len(self._times) - 2, 1.0
        i = bisect_right(self._times, t) - 1
        return i, (t - self._times[i]) / (self._times[i + 1] - self._times[i])

    def link(self, source: str, target: str, t: float) -> LinkState:
        """The directed link at scenario second t. A pair the schedule does not name is down."""
        pair = self._pair.get((source, target))
        if pair is None:
            return DOWN
        i, f = self._at(t)
        hold = i + 1 if f >= 1.0 else i
        delay = (1.0 - f) * float(self.delay_s[i, pair]) + f * float(self.delay_s[i + 1, pair])
        return LinkState(
            delay, float(self.rate_bit_s[hold, pair]), float(self.loss[hold, pair]), bool(self.up[hold, pair])
        )

    def illumination(self, satellite: str, t: float) -> float:
        """Illuminated fraction of the Sun's disc at t, 0 (umbra) to 1."""
        i, f = self._at(t)
        column = self._satellite[satellite]
        return (1.0 - f) * float(self.sunlight[i, column]) + f * float(self.sunlight[i + 1, column])


def encode_schedule(schedule: LinkSchedule) -> bytes:
    """The file's bytes; the same schedule always gives the same bytes."""
    header = msgspec.json.encode(schedule.header)
    parts = [MAGIC, _LENGTH.pack(len(header)), header]
    for name, dtype in _ARRAYS:
        parts.append(np.ascontiguousarray(getattr(schedule, name), dtype=np.dtype(dtype)).tobytes())
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def schedule_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def decode_schedule(data: bytes, where: str = "schedule") -> LinkSchedule:
    """The schedule in `data`, or DataFileError naming `where`."""
    if len(data) > MAX_FILE_BYTES or len(data) < len(MAGIC) + _LENGTH.size + 32 or data[:8] != MAGIC:
        raise DataFileError(f"{where}: not a link schedule (starts {data[:8]!r}, {len(data)} bytes)", _HINT)
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise DataFileError(f"{where}: its checksum does not match: the file is cut or was changed", _HINT)
    (length,) = _LENGTH.unpack_from(data, 8)
    start = 12 + length
    try:
        header = msgspec.json.decode(data[12:start], type=ScheduleHeader)
    except ValueError as error:
        raise DataFileError(f"{where}: header: {error}", _HINT) from error
    if header.version != 1:
        raise DataFileError(f"{where}: schedule version {header.version}, wanted 1", _HINT)
    n, p, s = header.samples, len(header.pairs), len(header.satellites)
    counts = {"time_s": (n,), "sunlight": (n, s), "position_km": (n, s, 3)}
    arrays = {}
    for name, dtype in _ARRAYS:
        shape = counts.get(name, (n, p))
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if n < 0 or start + size > len(data) - 32:
            raise DataFileError(f"{where}: {name} needs {size} bytes at {start}, the file is shorter", _HINT)
        arrays[name] = np.frombuffer(data[start : start + size], dtype=np.dtype(dtype)).reshape(shape)
        start += size
    if start != len(data) - 32:
        raise DataFileError(f"{where}: {len(data) - 32 - start} bytes after the last array", _HINT)
    return LinkSchedule(header, **arrays)


def read_schedule(path: Path) -> tuple[LinkSchedule, bytes]:
    """A schedule file and its bytes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}", _HINT) from error
    return decode_schedule(data, str(path)), data
