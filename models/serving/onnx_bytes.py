"""Write a small ONNX model without the onnx package: the few protobuf fields that one node needs.

A board has no onnx package, and which experts form a group is known only once they are placed. Field numbers are
those of onnx.proto (ONNX IR 10); tests read the bytes back with onnx itself and run its checker.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

FLOAT, UINT8 = 1, 2
_FLOAT_ATTRIBUTE, _INT_ATTRIBUTE, _STRING_ATTRIBUTE = 1, 2, 3
_EXTERNAL = 1


class Value(NamedTuple):
    """A tensor of the graph. A dimension is a number or the name of a free dimension."""

    name: str
    dtype: int
    shape: tuple[int | str, ...]


class Node(NamedTuple):
    """One node; an empty input name is an input left out."""

    kind: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, int | float | str]


def model(
    name: str,
    nodes: tuple[Node, ...],
    inputs: tuple[Value, ...],
    outputs: tuple[Value, ...],
    weights: tuple[Value, ...],
    opsets: dict[str, int],
) -> bytes:
    """A ModelProto whose `weights` are external initialisers: the session is given their values."""
    graph = b"".join(_message(1, _node(node)) for node in nodes)
    graph += _text(2, name)
    graph += b"".join(_message(5, _weight(weight)) for weight in weights)
    graph += b"".join(_message(11, _value_info(value)) for value in inputs)
    graph += b"".join(_message(12, _value_info(value)) for value in outputs)
    imports = b"".join(_message(8, _text(1, domain) + _number(2, version)) for domain, version in opsets.items())
    return _number(1, 10) + _text(2, "spacemoe-hil") + _message(7, graph) + imports


def _node(node: Node) -> bytes:
    body = b"".join(_text(1, name) for name in node.inputs) + b"".join(_text(2, name) for name in node.outputs)
    body += _text(3, node.outputs[0]) + _text(4, node.kind)
    body += b"".join(_message(5, _attribute(name, value)) for name, value in node.attributes.items())
    return body + _text(7, node.domain)


def _attribute(name: str, value: int | float | str) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, _INT_ATTRIBUTE)
    if isinstance(value, float):
        return _text(1, name) + _key(2, 5) + struct.pack("<f", value) + _number(20, _FLOAT_ATTRIBUTE)
    return _text(1, name) + _text(4, value) + _number(20, _STRING_ATTRIBUTE)


def _weight(weight: Value) -> bytes:
    body = b"".join(_number(1, int(size)) for size in weight.shape) + _number(2, weight.dtype) + _text(8, weight.name)
    return body + _message(13, _text(1, "location") + _text(2, "weights")) + _number(14, _EXTERNAL)


def _value_info(value: Value) -> bytes:
    sizes = (_number(1, size) if isinstance(size, int) else _text(2, size) for size in value.shape)
    shape = b"".join(_message(1, size) for size in sizes)
    return _text(1, value.name) + _message(2, _message(1, _number(1, value.dtype) + _message(2, shape)))


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _message(field: int, body: bytes) -> bytes:
    return _key(field, 2) + _varint(len(body)) + body


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())
