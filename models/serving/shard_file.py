"""What a shard file is, as a board reads it: one safetensors container with the graph and its weights.

The tensor `graph` (U8) is a serialised ONNX model without weights: its initialisers are declared external and
carry the names of the other tensors. A session is made of the graph and views of the (memory-mapped) file: we copy no
weights on the way in (onnxruntime does); several expert files can be stacked into one group (`models.serving.group`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from models.serving.safetensors_file import BadContainer, read_header, view

GRAPH = "graph"
SUFFIX = ".safetensors"


class ShardContents(NamedTuple):
    """`graph` serialised ONNX; `weights` read-only views into the buffer the shard was unpacked from."""

    graph: bytes
    weights: dict[str, NDArray[Any]]


def unpack(data: memoryview | bytes) -> ShardContents:
    """The parts of a shard; BadContainer where the bytes are no shard."""
    entries = read_header(data)
    graph = entries.pop(GRAPH, None)
    if graph is None or graph.dtype != "U8":
        raise BadContainer(f"no tensor {GRAPH!r} of bytes in it")
    return ShardContents(view(data, graph).tobytes(), {name: view(data, entry) for name, entry in entries.items()})
