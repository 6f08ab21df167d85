"""Key-value caches of the requests a gateway serves: one buffer per layer, grown by doubling, bounded in number."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import partial

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


class RequestCache:
    """Keys and values of one request over this gateway's layers, positions 0..length-1."""

    def __init__(self, layers: tuple[int, ...], kv_heads: int, head_dim: int) -> None:
        self.attempt = 0
        self.length = 0
        self.lock = threading.Lock()
        self._shape = (kv_heads, head_dim)
        self._rows = {layer: np.zeros((2, 64, *self._shape), np.float32) for layer in layers}

    def past(self, layer: int) -> tuple[F32, F32]:
        """Views [length, kv_heads, head_dim] of keys and values; no copy."""
        buffer = self._rows[layer]
        return buffer[0, : self.length], buffer[1, : self.length]

    def write(self, layer: int, key: F32, value: F32) -> None:
        """Put new rows after `length`; they count once `advance` was called."""
        end = self.length + len(key)
        buffer = self._rows[layer]
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


class CacheTable:
    """At most `capacity` requests; the least recently used one goes first."""

    def __init__(self, layers: tuple[int, ...], kv_heads: int, head_dim: int, capacity: int) -> None:
        self._make = partial(RequestCache, layers, kv_heads, head_dim)
        self._capacity = capacity
        self._entries: OrderedDict[int, RequestCache] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, request: int) -> RequestCache:
        """The request's cache, empty if it is new."""
        with self._lock:
            entry = self._entries.get(request)
            if entry is None:
                entry = self._entries[request] = self._make()
                while len(self._entries) > self._capacity:
                    self._entries.popitem(last=False)
            self._entries.move_to_end(request)
            return entry

    def drop(self, request: int, attempt: int) -> None:
        """Forget a request unless a newer attempt is at work."""
        with self._lock:
            entry = self._entries.get(request)
            if entry is not None and entry.attempt <= attempt:
                del self._entries[request]
