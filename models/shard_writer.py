"""Write a shard file: the container that `models.serving.shard_file` reads. Same contents, same bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.serving.safetensors_file import STORED
from models.serving.shard_file import GRAPH

ALIGNMENT = 64
_CODES = {
    np.dtype(stored).newbyteorder("<").str: code for code, stored in STORED.items() if code not in ("BF16", "F8_E4M3")
}


def write_shard(path: Path, graph: bytes, weights: Mapping[str, npt.NDArray[np.generic]]) -> tuple[str, int]:
    """Write graph and weights to a temporary name, flush to disk, rename. Returns SHA-256 and size.

    The header is filled with blanks so that the data begins at a multiple of 64 bytes, and wide words come
    first, so every tensor is aligned to its own word.
    """
    parts: dict[str, npt.NDArray[np.generic]] = {GRAPH: np.frombuffer(graph, dtype=np.uint8), **weights}
    order = sorted(parts, key=lambda name: (-parts[name].itemsize, name))
    header, offset = {}, 0
    for name in order:
        array = parts[name]
        code = _CODES[array.dtype.newbyteorder("<").str]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    digest, size = hashlib.sha256(), 0
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as handle:
        for chunk in _chunks(text, [parts[name] for name in order]):
            handle.write(chunk)
            digest.update(chunk)
            size += chunk.nbytes
        handle.flush()
        os.fsync(handle.fileno())
    temporary.rename(path)
    return digest.hexdigest(), size


def _chunks(header: bytes, arrays: list[npt.NDArray[np.generic]]) -> Iterator[memoryview]:
    yield memoryview(len(header).to_bytes(8, "little"))
    yield memoryview(header)
    for array in arrays:
        yield memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
