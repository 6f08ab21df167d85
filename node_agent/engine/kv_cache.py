"""Keys and values of requests at a gateway. Those that step together lie side by side, so that a batch is read where it
lies: gathered anew for every step, eight pasts of 400 positions cost a trunk more than what it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
CacheShape = Callable[[int], tuple[int, int, int]]
"""Layer -> heads, key size, value size (`ModelCard.cache_shape`)."""
STRIDE = 16
"""Positions; a past is read in multiples of it. A softmax adds up in vectors of 4, 8 or 16 values: over a past cut off
at its own end it would add in another order than beside longer ones, and depend on who shares the batch."""
FIRST_ROWS = 4 * STRIDE


class _Slab:
    """Keys and values [rows, n, heads, size] of n requests at one layer, in their columns. A request that has gone to
    another slab leaves its column behind; the slab goes when the last one has."""

    def __init__(self, shape: tuple[int, int, int], rows: int, columns: int) -> None:
        heads, key, value = shape
        self.columns = columns
        self.keys: F32 = np.zeros((rows, columns, heads, key), np.float32)
        self.values: F32 = np.zeros((rows, columns, heads, value), np.float32)

    def grow(self, rows: int) -> None:
        """To at least so many rows, by doubling, and to a multiple of `STRIDE`."""
        rows, held = _padded(rows), len(self.keys)
        if rows <= held:
            return
        for name in ("keys", "values"):
            old: F32 = getattr(self, name)
            grown = np.zeros((max(rows, 2 * held), *old.shape[1:]), np.float32)
            grown[:held] = old
            setattr(self, name, grown)


class RequestCache:
    """Keys and values of one request over this gateway's layers, positions 0..length-1."""

    def __init__(self, shape: CacheShape) -> None:
        self.attempt = 0
        self.length = 0
        self._shape = shape
        self._places: dict[int, tuple[_Slab, int]] = {}

    def _place(self, layer: int) -> tuple[_Slab, int]:
        place = self._places.get(layer)
        if place is None:
            place = self._places[layer] = _Slab(self._shape(layer), FIRST_ROWS, 1), 0
        return place

    def covers(self, first: int, last: int) -> bool:
        """Are the positions before `length` those of these layers?"""
        return not self.length or (first in self._places and last in self._places)

    def write(self, layer: int, key: F32, value: F32) -> None:
        """Put new rows [T, heads, size] after `length`; they count once `advance` was called."""
        slab, column = self._place(layer)
        end = self.length + len(key)
        slab.grow(end)
        slab.keys[self.length : end, column] = key
        slab.values[self.length : end, column] = value

    def advance(self, rows: int) -> None:
        self.length += rows

    def restart(self, attempt: int) -> None:
        """Rows beyond `length` are read beside longer pasts, and must be finite: none of the old ones stays."""
        self.attempt, self.length = attempt, 0
        self._places.clear()


def length_class(cache: RequestCache) -> int:
    """Requests of one class may lie side by side: a slab is as long as its longest past, so that beside one of 4,000
    positions each short one would take as much. No past of a class is four times another, but for those below 128."""
    return (cache.length // FIRST_ROWS).bit_length() // 2


def pasts(layer: int, caches: Sequence[RequestCache]) -> tuple[F32, F32]:
    """Views [P, B, heads, size] of keys and values of B requests; P is the longest past, up to a multiple of `STRIDE`.

    What lies beyond a request's own past is finite and means nothing: no trunk looks there (`models.export_onnx`).
    Requests that do not lie side by side in this order are put so first, which copies them.
    """
    count = _padded(max(1, *(cache.length for cache in caches)))
    slab, _ = caches[0]._place(layer)
    if slab.keys.shape[1] != len(caches) or any(cache._place(layer) != (slab, at) for at, cache in enumerate(caches)):
        slab = _side_by_side(layer, caches)
    slab.grow(count)
    return slab.keys[:count], slab.values[:count]


def _padded(rows: int) -> int:
    return -(-rows // STRIDE) * STRIDE


def _side_by_side(layer: int, caches: Sequence[RequestCache]) -> _Slab:
    places = [cache._place(layer) for cache in caches]
    slab = _Slab(caches[0]._shape(layer), max(len(old.keys) for old, _ in places), len(caches))
    for at, (cache, (old, column)) in enumerate(zip(caches, places, strict=True)):
        slab.keys[: cache.length, at] = old.keys[: cache.length, column]
        slab.values[: cache.length, at] = old.values[: cache.length, column]
        cache._places[layer] = slab, at
    return slab
