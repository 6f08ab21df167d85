"""Read a safetensors container without any library: a JSON header, then raw little-endian tensors.

Layout (huggingface.co/docs/safetensors): u64 header length, header {name: {dtype, shape, data_offsets}}, data.
Arrays are views of the buffer, so a memory-mapped file costs no memory until a tensor is used.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_HEADER_BYTES = 100 << 20

STORED = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "|u1", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "|i1", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
"""Container dtype -> numpy dtype of the stored words; numpy has no BF16 or F8, their words come as they are."""


class BadContainer(ValueError):
    """Says what is wrong; the caller knows the file's name."""


class Entry(NamedTuple):
    """Where a tensor lies in the buffer."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(data: memoryview | bytes, size: int | None = None) -> dict[str, Entry]:
    """Every tensor in a container that is `size` bytes long (default: as long as `data`)."""
    whole = len(data) if size is None else size
    if whole < 8:
        raise BadContainer(f"{whole} bytes, wanted at least 8")
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER_BYTES, whole - 8):
        raise BadContainer(f"header of {length} bytes in a file of {whole}: cut, or not a safetensors file")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
    except (ValueError, RecursionError) as error:
        raise BadContainer(f"header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise BadContainer(f"header is a JSON {type(header).__name__}, wanted an object")
    header.pop("__metadata__", None)
    return {name: _entry(name, value, 8 + length, whole) for name, value in header.items()}


def _entry(name: str, value: Any, offset: int, whole: int) -> Entry:
    try:
        dtype, shape, (start, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
        count = 1
        for side in shape:
            count *= side
        good = all(type(n) is int and n >= 0 for n in (*shape, start, end))
        good = good and end - start == count * np.dtype(STORED[dtype]).itemsize
    except (TypeError, KeyError, ValueError) as error:
        raise BadContainer(f"tensor {name!r}: entry {value!r} is not understood") from error
    if not good:
        raise BadContainer(f"tensor {name!r}: entry {value!r} does not add up")
    if offset + end > whole:
        raise BadContainer(f"tensor {name!r} ends at byte {offset + end} of a file of {whole}: the file is cut")
    return Entry(dtype, shape, offset + start, offset + end)


def view(data: memoryview | bytes, entry: Entry) -> NDArray[Any]:
    """The stored words of a tensor, read-only, no copy."""
    dtype = np.dtype(STORED[entry.dtype])
    count = (entry.end - entry.start) // dtype.itemsize
    array: NDArray[Any] = np.frombuffer(data, dtype, count, entry.start)
    return array.reshape(entry.shape)
