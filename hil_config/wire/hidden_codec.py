"""How a hidden state [rows, width] float32 is written in a frame: fp32, fp16, int8 or int4.

fp16 saturates at its largest finite value. int8 is symmetric per token (row): a float32 scale, max|row| / 127. int4 is
symmetric per group of `GROUP` values of a row: a float16 scale, max|group| / 7, two codes a byte, low half first.
The error of both is at most half a scale, to which int4 adds the rounding of its scale (2^-11 of the value).
Non-finite values are refused at both ends.
"""

from __future__ import annotations

from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import LocalProtocolError, RemoteProtocolError

Codec = Literal["fp32", "fp16", "int8", "int4"]
CODECS: tuple[Codec, ...] = ("fp32", "fp16", "int8", "int4")
GROUP = 32
_FP16_MAX = 65504.0
_INT8_SCALE_MAX = np.nextafter(np.finfo(np.float32).max / np.float32(127.0), np.float32(0.0))
"""The largest of which 127 are finite: float32's largest value / 127 is rounded up."""
_ONE_THREAD = 8192
"""Values whose sum of squares a linear algebra library does not hand out to several threads (OpenBLAS: 10,000)."""
_F4 = np.dtype("<f4")

Hidden = NDArray[np.float32]


def finite(values: NDArray[np.float32]) -> bool:
    """`isfinite(values).all()`, at a quarter of the cost for a row. A sum of squares tells where it is finite itself;
    otherwise the largest and the smallest value do: what is no number counts as either."""
    if not values.size:
        return True
    if values.size <= _ONE_THREAD and isfinite(np.vdot(values, values)):
        return True
    return isfinite(values.item(values.argmax())) and isfinite(values.item(values.argmin()))


def encoded_size(codec: Codec, rows: int, width: int) -> int:
    """Bytes of an encoded [rows, width] array."""
    if codec == "fp32":
        return 4 * rows * width
    if codec == "fp16":
        return 2 * rows * width
    if codec == "int8":
        return rows * (width + 4)
    return rows * (2 + GROUP // 2) * _groups(width)


def _groups(width: int) -> int:
    """Groups of a row; the last is filled up with zeros."""
    return -(-width // GROUP)


def encode_hidden(hidden: Hidden, codec: Codec, checked: bool = False) -> bytes:
    """Bytes of float32 [rows, width]; LocalProtocolError if a value is not finite. `checked`: somebody has looked."""
    if not (checked or finite(hidden)):
        raise LocalProtocolError("a hidden state holds a value that is not finite")
    if codec == "fp32":
        return (hidden if hidden.dtype is _F4 else hidden.astype(_F4)).tobytes()
    if codec == "fp16":
        return np.clip(hidden, -_FP16_MAX, _FP16_MAX).astype("<f2").tobytes()
    if codec == "int4":
        return _encode_int4(hidden)
    peak = np.abs(hidden).max(axis=1, initial=0.0)
    scale = np.minimum(peak / 127.0, _INT8_SCALE_MAX).astype("<f4")
    safe = np.where(scale > 0.0, scale, np.float32(1.0))
    codes = np.clip(np.rint(hidden / safe[:, None]), -127, 127).astype(np.int8)
    return bytes(scale.tobytes() + codes.tobytes())


def _encode_int4(hidden: Hidden) -> bytes:
    rows, width = hidden.shape
    grouped = np.zeros((rows, _groups(width), GROUP), np.float32)
    grouped.reshape(rows, -1)[:, :width] = hidden
    peak = np.abs(grouped).max(axis=2)
    scale = np.minimum(peak / 7.0, _FP16_MAX).astype("<f2")
    safe = np.where(scale > 0, scale, 1.0).astype(np.float32)
    codes = np.clip(np.rint(grouped / safe[:, :, None]), -7, 7).astype(np.int8)
    pairs = (codes & 0xF).astype(np.uint8).reshape(rows, -1, 2)
    return bytes(scale.tobytes() + (pairs[:, :, 0] | pairs[:, :, 1] << 4).tobytes())


def _decode_int4(data: bytes | memoryview, rows: int, width: int) -> Hidden:
    groups = _groups(width)
    scale = np.frombuffer(data, "<f2", rows * groups).astype(np.float32).reshape(rows, groups, 1)
    packed = np.frombuffer(data, np.uint8, rows * groups * GROUP // 2, 2 * rows * groups)
    codes = np.empty((len(packed), 2), np.int8)
    codes[:, 0] = (packed << 4).view(np.int8) >> 4
    codes[:, 1] = packed.view(np.int8) >> 4
    with np.errstate(over="ignore", invalid="ignore"):
        values = codes.reshape(rows, groups, GROUP) * scale
    return np.ascontiguousarray(values.reshape(rows, -1)[:, :width], np.float32)


def decode_hidden(data: bytes | memoryview, codec: Codec, rows: int, width: int) -> Hidden:
    """Float32 [rows, width]; RemoteProtocolError on a wrong size or a value that is not finite."""
    if len(data) != encoded_size(codec, rows, width):
        raise RemoteProtocolError(
            f"{codec} hidden state of [{rows}, {width}]: {len(data)} bytes, wanted {encoded_size(codec, rows, width)}"
        )
    hidden: Hidden
    if codec == "fp32":
        hidden = np.ndarray((rows, width), _F4, bytearray(data))  # a copy: frames are not aligned, nor do they last
    elif codec == "fp16":
        hidden = np.frombuffer(data, "<f2").reshape(rows, width).astype(np.float32)
    elif codec == "int4":
        hidden = _decode_int4(data, rows, width)
    else:
        scale = np.frombuffer(data, "<f4", rows)
        codes = np.frombuffer(data, np.int8, rows * width, 4 * rows).reshape(rows, width)
        with np.errstate(over="ignore", invalid="ignore"):
            hidden = codes.astype(np.float32) * scale[:, None].astype(np.float32)
    if not finite(hidden):
        raise RemoteProtocolError(f"{codec} hidden state holds a value that is not finite")
    return hidden
