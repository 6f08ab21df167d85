"""How a hidden state [rows, width] float32 is written in a frame: fp32, fp16, or int8 with a scale per row.

fp16 saturates at its largest finite value; int8 is symmetric per token, so its error is at most half a
scale, scale = max|row| / 127. Non-finite values are refused at both ends.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import LocalProtocolError, RemoteProtocolError

Codec = Literal["fp32", "fp16", "int8"]
CODECS: tuple[Codec, ...] = ("fp32", "fp16", "int8")
_FP16_MAX = 65504.0

Hidden = NDArray[np.float32]


def encoded_size(codec: Codec, rows: int, width: int) -> int:
    """Bytes of an encoded [rows, width] array."""
    if codec == "fp32":
        return 4 * rows * width
    if codec == "fp16":
        return 2 * rows * width
    return rows * (width + 4)


def encode_hidden(hidden: Hidden, codec: Codec) -> bytes:
    """Bytes of float32 [rows, width]; LocalProtocolError if a value is not finite."""
    if not np.isfinite(hidden).all():
        raise LocalProtocolError("a hidden state holds a value that is not finite")
    if codec == "fp32":
        return hidden.astype("<f4", copy=False).tobytes()
    if codec == "fp16":
        return np.clip(hidden, -_FP16_MAX, _FP16_MAX).astype("<f2").tobytes()
    peak = np.abs(hidden).max(axis=1, initial=0.0)
    scale = (peak / 127.0).astype("<f4")
    safe = np.where(scale > 0.0, scale, np.float32(1.0))
    codes = np.clip(np.rint(hidden / safe[:, None]), -127, 127).astype(np.int8)
    return bytes(scale.tobytes() + codes.tobytes())


def decode_hidden(data: bytes | memoryview, codec: Codec, rows: int, width: int) -> Hidden:
    """Float32 [rows, width]; RemoteProtocolError on a wrong size or a value that is not finite."""
    if len(data) != encoded_size(codec, rows, width):
        raise RemoteProtocolError(
            f"{codec} hidden state of [{rows}, {width}]: {len(data)} bytes, wanted {encoded_size(codec, rows, width)}"
        )
    hidden: Hidden
    if codec == "fp32":
        hidden = np.frombuffer(data, "<f4").reshape(rows, width).astype(np.float32, copy=False)
    elif codec == "fp16":
        hidden = np.frombuffer(data, "<f2").reshape(rows, width).astype(np.float32)
    else:
        scale = np.frombuffer(data, "<f4", rows)
        codes = np.frombuffer(data, np.int8, rows * width, 4 * rows).reshape(rows, width)
        with np.errstate(over="ignore", invalid="ignore"):
            hidden = codes.astype(np.float32) * scale[:, None].astype(np.float32)
    if not np.isfinite(hidden).all():
        raise RemoteProtocolError(f"{codec} hidden state holds a value that is not finite")
    return hidden
