"""The key-value cache of one request at a gateway: one buffer per layer, grown by doubling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
CacheShape = Callable[[int], tuple[int, int, int]]
"""Layer -> heads, key size, value size (`ModelCard.cache_shape`)."""
FIRST_ROWS = 64


class RequestCache:
    """Keys and values of one request over this gateway's layers, positions 0..length-1."""

    def __init__(self, shape: CacheShape) -> None:
        self.attempt = 0
        self.length = 0
        self._shape = shape
        self._rows: dict[int, tuple[F32, F32]] = {}

    def _buffers(self, layer: int, rows: int) -> tuple[F32, F32]:
        heads, key, value = self._shape(layer)
        return np.zeros((rows, heads, key), np.float32), np.zeros((rows, heads, value), np.float32)

    def _held(self, layer: int) -> tuple[F32, F32]:
        if layer not in self._rows:
            self._rows[layer] = self._buffers(layer, FIRST_ROWS)
        return self._rows[layer]

    def covers(self, first: int, last: int) -> bool:
        """Are the positions before `length` those of these layers?"""
        return not self.length or (first in self._rows and last in self._rows)

    def past(self, layer: int) -> tuple[F32, F32]:
        """Views [max(length, 1), heads, size] of keys and values; no copy. Without a past one row stands for none: it
        lies beyond `length`, and no trunk looks there (`models.export_onnx`)."""
        keys, values = self._held(layer)
        count = max(self.length, 1)
        return keys[:count], values[:count]

    def write(self, layer: int, key: F32, value: F32) -> None:
        """Put new rows after `length`; they count once `advance` was called."""
        end = self.length + len(key)
        keys, values = self._held(layer)
        if end > len(keys):
            grown = self._buffers(layer, max(end, 2 * len(keys)))
            for old, new in zip((keys, values), grown, strict=True):
                new[: self.length] = old[: self.length]
            self._rows[layer] = keys, values = grown
        keys[self.length : end] = key
        values[self.length : end] = value

    def advance(self, rows: int) -> None:
        self.length += rows

    def restart(self, attempt: int) -> None:
        self.attempt, self.length = attempt, 0
