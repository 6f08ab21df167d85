"""The key-value cache of one request at a gateway: one buffer per layer, grown by doubling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
FIRST_ROWS = 64


class RequestCache:
    """Keys and values of one request over this gateway's layers, positions 0..length-1."""

    def __init__(self, kv_heads: int, head_dim: int) -> None:
        self.attempt = 0
        self.length = 0
        self._shape = (kv_heads, head_dim)
        self._rows: dict[int, F32] = {}

    def _buffer(self, layer: int) -> F32:
        buffer = self._rows.get(layer)
        if buffer is None:
            buffer = self._rows[layer] = np.zeros((2, FIRST_ROWS, *self._shape), np.float32)
        return buffer

    def past(self, layer: int) -> tuple[F32, F32]:
        """Views [length, kv_heads, head_dim] of keys and values; no copy."""
        buffer = self._buffer(layer)
        return buffer[0, : self.length], buffer[1, : self.length]

    def write(self, layer: int, key: F32, value: F32) -> None:
        """Put new rows after `length`; they count once `advance` was called."""
        end = self.length + len(key)
        buffer = self._buffer(layer)
        if end > buffer.shape[1]:
            grown = np.zeros((2, max(end, 2 * buffer.shape[1]), *self._shape), np.float32)
            grown[:, : self.length] = buffer[:, : self.length]
            self._rows[layer] = buffer = grown
        buffer[0, self.length : end] = key
        buffer[1, self.length : end] = value

    def advance(self, rows: int) -> None:
        self.length += rows

    def restart(self, attempt: int) -> None:
        self.attempt, self.length = attempt, 0
