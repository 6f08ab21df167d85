"""The hidden-state protocol: frames between nodes, sans-io.

A frame is 16 bytes of prefix and a body:

    magic "SMH1" | kind u8 | codec u8 | reserved u16 (0) | body length u32 | CRC-32 of the body u32
    body = u16 length of the header | header (MessagePack array of the frame's type) | tensor bytes

The header's type is known from `kind`; the tensors' dtypes follow from it, their shapes stand in the header
(`rows`, `width`, `picks`). All numbers little-endian. Fields named in `_OPTIONAL` are left out from the end while
they have their default, so a frame that uses none of them is the frame of before they existed. Nothing is read
beyond what the prefix promises, no promise above `MAX_BODY_BYTES` is believed, and every failure is a
RemoteProtocolError: a peer can neither make us allocate nor make us raise anything else.
"""

from __future__ import annotations

import struct
import zlib
from operator import attrgetter
from typing import get_args

import msgspec

from hil_config.errors import LocalProtocolError, RemoteProtocolError
from hil_config.wire.frame_tensors import MAX_PICKS, MAX_ROWS, MAX_WIDTH, READ, WRITE, Parts, read_bare
from hil_config.wire.frame_types import (
    PROTOCOL,
    Cancel,
    Delta,
    DeltaReply,
    ExpertCall,
    ExpertReply,
    Frame,
    FrameHeader,
    Handover,
    Hello,
    Refusal,
    Relayed,
    Route,
    Scores,
    Sealed,
    Step,
    Token,
)
from hil_config.wire.hidden_codec import CODECS, Codec

__all__ = [
    "MAGIC", "MAX_BODY_BYTES", "MAX_PICKS", "MAX_ROWS", "MAX_WIDTH", "PREFIX_BYTES", "PROTOCOL", "Cancel", "Delta",
    "DeltaReply", "ExpertCall", "ExpertReply", "Frame", "FrameDecoder", "Handover", "Hello", "Refusal", "Relayed",
    "Route", "Scores", "Sealed", "Step", "Token", "decode_body", "decode_plain", "encode_frame", "encode_plain",
    "most_rows",
]  # fmt: skip

MAGIC = b"SMH1"
MAX_BODY_BYTES = 16 << 20
_PREFIX = struct.Struct("<4sBBHII")
_U16 = struct.Struct("<H")
_CODEC_NUMBER = {codec: number for number, codec in enumerate(CODECS)}
PREFIX_BYTES = _PREFIX.size


def most_rows(width: int) -> int:
    """Of a hidden state that fit into any frame, at any codec, with any header and picks."""
    return min(MAX_ROWS, (MAX_BODY_BYTES - (1 << 16) - _U16.size) // (4 * width + 6 * MAX_PICKS + 4))


_TYPES: dict[int, type[FrameHeader]] = {t.kind: t for t in get_args(Frame)}


def _bare_header(frame: FrameHeader) -> bytes:
    """The header: all fields but tensors, without trailing optional ones that have their default."""
    items: tuple[object, ...] = _HEADER_VALUES[type(frame)](frame)
    least, defaults = _OPTIONAL_TAIL[type(frame)]
    if not defaults:
        return _encode_items(items)
    if items[least:] == defaults:  # nearly always, and cheaper than looking at one after the other
        return _encode_items(items[:least])
    count = len(items)
    while count > least and items[count - 1] == defaults[count - 1 - least]:
        count -= 1
    return _encode_items(items[:count])


_TENSOR_FIELDS = {"tokens", "experts", "weights", "hidden", "logprobs", "payload", "encoded", "row"}
_OPTIONAL: dict[str, object] = {
    "score": False, "adapter": "", "offer": b"", "precisions": (), "answer": "",
}  # fmt: skip
_HEADER_FIELDS: dict[type[FrameHeader], tuple[str, ...]] = {
    t: tuple(name for name in t.__struct_fields__ if name not in _TENSOR_FIELDS) for t in _TYPES.values()
}
_HEADER_VALUES = {kind: attrgetter(*fields) for kind, fields in _HEADER_FIELDS.items()}
_LEAST = {kind: sum(name not in _OPTIONAL for name in fields) for kind, fields in _HEADER_FIELDS.items()}
_OPTIONAL_TAIL = {
    kind: (_LEAST[kind], tuple(_OPTIONAL[name] for name in fields[_LEAST[kind] :]))
    for kind, fields in _HEADER_FIELDS.items()
}
_encode_items = msgspec.msgpack.Encoder().encode


Decoders = dict[int, msgspec.msgpack.Decoder[tuple[object, ...] | FrameHeader]]


def _header_decoders(kind: type[FrameHeader]) -> Decoders:
    """By the first byte of the header (a MessagePack array of up to 15 items): one for each allowed count. The least is
    the frame itself: its fields come before all tensors in the type."""
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    fields = _HEADER_FIELDS[kind]
    least: dict[int, type[FrameHeader]] = {0x90 | _LEAST[kind]: kind}
    more = {
        0x90 | count: tuple.__class_getitem__(tuple(types[name] for name in fields[:count]))
        for count in range(_LEAST[kind] + 1, len(fields) + 1)
    }
    return {first: msgspec.msgpack.Decoder(wanted) for first, wanted in {**least, **more}.items()}


_DECODERS = {kind: _header_decoders(kind) for kind in _TYPES.values()}


def _decode_header(kind: type[FrameHeader], header: memoryview) -> FrameHeader:
    decoder = _DECODERS[kind].get(header[0] if header else 0)
    if decoder is None:
        raise RemoteProtocolError(f"{kind.__name__}: header starts {bytes(header[:1])!r}: wrong number of items")
    try:
        items = decoder.decode(header)
        if isinstance(items, FrameHeader):
            return items
        return kind(**dict(zip(_HEADER_FIELDS[kind], items, strict=False)))
    except (ValueError, TypeError, RecursionError) as error:  # msgspec errors and a bare UnicodeDecodeError
        raise RemoteProtocolError(f"{kind.__name__}: {error}") from error


def _body(frame: Frame, codec: Codec) -> tuple[int, Parts]:
    """(length, header with its length and tensors)."""
    write = WRITE.get(type(frame))
    tensors = () if write is None else write(frame, codec)
    header = _bare_header(frame)
    if len(header) > 0xFFFF:
        raise LocalProtocolError(f"{type(frame).__name__}: header of {len(header)} bytes; at most 65535")
    length = _U16.size + len(header) + sum(map(len, tensors))
    if length > MAX_BODY_BYTES:
        raise LocalProtocolError(f"{type(frame).__name__}: {length} bytes; at most {MAX_BODY_BYTES}")
    return length, (_U16.pack(len(header)), header, *tensors)


def encode_frame(frame: Frame, codec: Codec = "fp32") -> bytes:
    """The frame's bytes; LocalProtocolError if we would break our own rules."""
    length, parts = _body(frame, codec)
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return b"".join((_PREFIX.pack(MAGIC, frame.kind, _CODEC_NUMBER[codec], 0, length, crc), *parts))


def encode_plain(frame: Frame, codec: Codec = "fp32") -> bytes:
    """What is sealed of a frame: kind and codec, a byte each, and its body. The seal stands in for the checksum."""
    return b"".join((bytes((frame.kind, _CODEC_NUMBER[codec])), *_body(frame, codec)[1]))


def decode_plain(data: bytes) -> Frame:
    """The frame in what was sealed, or RemoteProtocolError."""
    if len(data) < 2:
        raise RemoteProtocolError("a sealed frame without kind and codec")
    frame = decode_body(data[0], data[1], memoryview(data)[2:])
    if isinstance(frame, (Hello, Sealed, Relayed)):
        raise RemoteProtocolError(f"a {type(frame).__name__} frame cannot be sealed")
    return frame


def decode_body(kind: int, codec: int, body: memoryview) -> Frame:
    """The frame in a body whose CRC was right, or RemoteProtocolError. Nothing of the body is kept."""
    frame_type = _TYPES.get(kind)
    if frame_type is None or codec >= len(CODECS):
        raise RemoteProtocolError(f"frame kind {kind}, codec {codec}: unknown")
    if len(body) < _U16.size:
        raise RemoteProtocolError("frame body without a header length")
    end = _U16.size + body[0] + 256 * body[1]
    if end > len(body):
        raise RemoteProtocolError(f"header of {end - _U16.size} bytes in a body of {len(body)}")
    frame = _decode_header(frame_type, body[_U16.size : end])
    READ.get(frame_type, read_bare)(frame, CODECS[codec], body[end:])
    return frame  # type: ignore[return-value]  # the table holds exactly the union's members


class FrameDecoder:
    """Bytes in, frames out. After an error it stays broken: a stream out of step cannot be trusted again."""

    def __init__(self) -> None:
        self._begun = bytearray()
        """A frame's beginning, kept until the rest has come."""
        self._fresh: bytes | bytearray | memoryview = b""
        self._failure: RemoteProtocolError | None = None

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the stream, in any split. They are read where they lie: what is mutable may only change once
        `next_frame` has returned None."""
        if self._fresh:
            self._keep()
        if self._begun:
            self._begun += data
        else:
            self._fresh = data

    def _keep(self) -> None:
        self._begun += self._fresh
        self._fresh = b""

    @property
    def pending(self) -> int:
        """Bytes received that no frame has used yet."""
        return len(self._begun) + len(self._fresh)

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None until more bytes come; RemoteProtocolError for good once broken."""
        if self._failure is not None:
            raise self._failure
        data = self._begun or self._fresh
        if not data:
            return None
        try:
            return self._next(data)
        except RemoteProtocolError as error:
            self._failure = error
            self._begun.clear()
            self._fresh = b""
            raise

    def _next(self, data: bytes | bytearray | memoryview) -> Frame | None:
        count = len(data)
        if count < PREFIX_BYTES:
            if not MAGIC.startswith(data[:4]):
                raise RemoteProtocolError(f"stream starts {bytes(data[:4])!r}, wanted {MAGIC!r}")
            self._keep()
            return None
        magic, kind, codec, reserved, length, crc = _PREFIX.unpack_from(data)
        if magic != MAGIC or reserved != 0:
            raise RemoteProtocolError(f"frame starts {magic!r} with reserved {reserved}, wanted {MAGIC!r} and 0")
        if length > MAX_BODY_BYTES:
            raise RemoteProtocolError(f"frame promises {length} bytes; at most {MAX_BODY_BYTES}")
        end = PREFIX_BYTES + length
        if count < end:
            self._keep()
            return None
        whole = memoryview(data)
        if data is self._begun:
            whole = memoryview(bytes(whole[:end]))
            del self._begun[:end]
        else:
            self._fresh = whole[end:] if count > end else b""
        body = whole[PREFIX_BYTES:end]
        if zlib.crc32(body) != crc:
            raise RemoteProtocolError(f"frame of kind {kind}: checksum does not match")
        return decode_body(kind, codec, body)
