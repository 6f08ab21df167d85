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
from collections.abc import Callable
from operator import attrgetter
from typing import get_args

import msgspec
import numpy as np

from hil_config.errors import LocalProtocolError, RemoteProtocolError
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
from hil_config.wire.hidden_codec import CODECS, Codec, Hidden, decode_hidden, encode_hidden, finite

__all__ = [
    "MAGIC", "MAX_BODY_BYTES", "MAX_PICKS", "MAX_ROWS", "MAX_WIDTH", "PREFIX_BYTES", "PROTOCOL", "Cancel", "Delta",
    "DeltaReply", "ExpertCall", "ExpertReply", "Frame", "FrameDecoder", "Handover", "Hello", "Refusal", "Relayed",
    "Route", "Scores", "Sealed", "Step", "Token", "decode_body", "decode_plain", "encode_frame", "encode_plain",
]  # fmt: skip

MAGIC = b"SMH1"
MAX_BODY_BYTES = 16 << 20
MAX_ROWS = 4096
MAX_WIDTH = 16384
MAX_PICKS = 64
_PREFIX = struct.Struct("<4sBBHII")
_I2, _F4 = np.dtype("<i2"), np.dtype("<f4")
_U16 = struct.Struct("<H")
_CODEC_NUMBER = {codec: number for number, codec in enumerate(CODECS)}
PREFIX_BYTES = _PREFIX.size

_TYPES: dict[int, type[FrameHeader]] = {t.kind: t for t in get_args(Frame)}
_WITH_HIDDEN = (Handover, ExpertCall, ExpertReply)
_MOST = (MAX_ROWS, MAX_WIDTH, MAX_PICKS)
_SIZES: dict[type[FrameHeader], Callable[[FrameHeader], tuple[int, ...]]] = {
    Step: attrgetter("rows", "rows"), Scores: attrgetter("rows", "rows"), Handover: attrgetter("rows", "width"),
    ExpertReply: attrgetter("rows", "width"), ExpertCall: attrgetter("rows", "width", "picks"),
}  # fmt: skip
"""What `_MOST` bounds, in its order; an attrgetter of one name would give no tuple, and rows twice are below both."""
_WITH_PAYLOAD = (Delta, Sealed, Relayed)


def _bare_header(frame: FrameHeader) -> bytes:
    """The header: all fields but tensors, without trailing optional ones that have their default."""
    items: tuple[object, ...] = _HEADER_VALUES[type(frame)](frame)
    least, defaults = _OPTIONAL_TAIL[type(frame)]
    if items[least:] == defaults:  # nearly always, and cheaper than looking at one after the other
        return _encode_items(items[:least])
    count = len(items)
    while count > least and items[count - 1] == defaults[count - 1 - least]:
        count -= 1
    return _encode_items(items[:count])


_TENSOR_FIELDS = {"tokens", "experts", "weights", "hidden", "logprobs", "payload", "encoded"}
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


Decoders = dict[int, msgspec.msgpack.Decoder[tuple[object, ...]]]


def _header_decoders(kind: type[FrameHeader]) -> Decoders:
    """By the first byte of the header (a MessagePack array of up to 15 items): one for each allowed count."""
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    fields = _HEADER_FIELDS[kind]
    return {
        0x90 | count: msgspec.msgpack.Decoder(tuple.__class_getitem__(tuple(types[name] for name in fields[:count])))
        for count in range(_LEAST[kind], len(fields) + 1)
    }


_DECODERS = {kind: _header_decoders(kind) for kind in _TYPES.values()}


def _decode_header(kind: type[FrameHeader], header: bytes) -> FrameHeader:
    decoder = _DECODERS[kind].get(header[0] if header else 0)
    if decoder is None:
        raise RemoteProtocolError(f"{kind.__name__}: header starts {header[:1]!r}: wrong number of items")
    try:
        items = decoder.decode(header)
        if len(items) == _LEAST[kind]:  # these come before all tensors in the type
            return kind(*items)
        return kind(**dict(zip(_HEADER_FIELDS[kind], items, strict=False)))
    except (ValueError, TypeError, RecursionError) as error:  # msgspec errors and a bare UnicodeDecodeError
        raise RemoteProtocolError(f"{kind.__name__}: {error}") from error


def _tensors(frame: FrameHeader, codec: Codec) -> bytes:
    if isinstance(frame, ExpertCall):
        return _call_tensors(frame, codec)
    if isinstance(frame, ExpertReply):
        return encode_hidden(_shaped(frame), codec)
    if isinstance(frame, Step):
        if frame.tokens.shape != (frame.rows,):
            raise LocalProtocolError(f"Step: tokens {frame.tokens.shape}, rows {frame.rows}")
        return frame.tokens.astype("<i4", copy=False).tobytes()
    if isinstance(frame, Scores):
        if frame.logprobs.shape != (frame.rows,) or not np.isfinite(frame.logprobs).all():
            raise LocalProtocolError(f"Scores: log-probabilities {frame.logprobs.shape}, rows {frame.rows}")
        return frame.logprobs.astype("<f4", copy=False).tobytes()
    if isinstance(frame, _WITH_PAYLOAD):
        return frame.payload
    if not isinstance(frame, Handover):
        return b""
    hidden = encode_hidden(_shaped(frame), codec)
    if frame.tokens.shape != ((frame.rows,) if frame.score else (0,)):
        raise LocalProtocolError(f"Handover: tokens {frame.tokens.shape}, rows {frame.rows}, score {frame.score}")
    return frame.tokens.astype("<i4", copy=False).tobytes() + hidden


def _shaped(frame: Handover | ExpertCall | ExpertReply) -> Hidden:
    """The frame's hidden state, which must be what its header says."""
    if frame.hidden.shape != (frame.rows, frame.width):
        raise LocalProtocolError(
            f"{type(frame).__name__}: hidden {frame.hidden.shape}, header {(frame.rows, frame.width)}"
        )
    return frame.hidden


def _call_tensors(frame: ExpertCall, codec: Codec) -> bytes:
    hidden = _shaped(frame)
    shape = (frame.rows, frame.picks)
    if frame.experts.shape != shape or frame.weights.shape != shape:
        raise LocalProtocolError(f"ExpertCall: experts {frame.experts.shape}, weights {frame.weights.shape}")
    known = frame.encoded
    encoded = None if known is None else known.get(codec)
    if encoded is None:
        encoded = encode_hidden(hidden, codec)
        if known is not None:
            known[codec] = encoded
    experts = frame.experts.astype(_I2, copy=False).tobytes()
    return b"".join((experts, frame.weights.astype(_F4, copy=False).tobytes(), encoded))


def _body(frame: Frame, codec: Codec) -> tuple[bytes, bytes]:
    """(header with its length, tensors)."""
    _check_bounds(frame, LocalProtocolError)
    header = _bare_header(frame)
    if len(header) > 0xFFFF:
        raise LocalProtocolError(f"{type(frame).__name__}: header of {len(header)} bytes; at most 65535")
    head = _U16.pack(len(header)) + header
    tensors = _tensors(frame, codec)
    if len(head) + len(tensors) > MAX_BODY_BYTES:
        raise LocalProtocolError(f"{type(frame).__name__}: {len(head) + len(tensors)} bytes; at most {MAX_BODY_BYTES}")
    return head, tensors


def encode_frame(frame: Frame, codec: Codec = "fp32") -> bytes:
    """The frame's bytes; LocalProtocolError if we would break our own rules."""
    head, tensors = _body(frame, codec)
    crc = zlib.crc32(tensors, zlib.crc32(head))
    prefix = _PREFIX.pack(MAGIC, frame.kind, _CODEC_NUMBER[codec], 0, len(head) + len(tensors), crc)
    return b"".join((prefix, head, tensors))


def encode_plain(frame: Frame, codec: Codec = "fp32") -> bytes:
    """What is sealed of a frame: kind and codec, a byte each, and its body. The seal stands in for the checksum."""
    return b"".join((bytes((frame.kind, _CODEC_NUMBER[codec])), *_body(frame, codec)))


def decode_plain(data: bytes) -> Frame:
    """The frame in what was sealed, or RemoteProtocolError."""
    if len(data) < 2:
        raise RemoteProtocolError("a sealed frame without kind and codec")
    frame = decode_body(data[0], data[1], data[2:])
    if isinstance(frame, (Hello, Sealed, Relayed)):
        raise RemoteProtocolError(f"a {type(frame).__name__} frame cannot be sealed")
    return frame


def _check_bounds(frame: FrameHeader, error: type[LocalProtocolError] | type[RemoteProtocolError]) -> None:
    sizes = _SIZES.get(type(frame))
    if sizes is None:
        return
    for size, most in zip(sizes(frame), _MOST, strict=False):
        if not 1 <= size <= most:
            rows, width, picks = (getattr(frame, name, 1) for name in ("rows", "width", "picks"))
            raise error(
                f"{type(frame).__name__}: rows {rows}, width {width}, picks {picks}; "
                f"wanted 1..{MAX_ROWS}, 1..{MAX_WIDTH}, 1..{MAX_PICKS}"
            )


def _split_call(frame: ExpertCall, data: memoryview) -> memoryview:
    count = frame.rows * frame.picks
    if len(data) < 6 * count:
        raise RemoteProtocolError(f"ExpertCall: {len(data)} bytes of tensors, picks need {6 * count}")
    frame.experts = np.ndarray((frame.rows, frame.picks), _I2, data)
    frame.weights = np.ndarray((frame.rows, frame.picks), _F4, data, 2 * count)
    if not finite(frame.weights):
        raise RemoteProtocolError("ExpertCall: a weight is not finite")
    return data[6 * count :]


def decode_body(kind: int, codec: int, body: bytes) -> Frame:
    """The frame in a body whose CRC was right, or RemoteProtocolError."""
    frame_type = _TYPES.get(kind)
    if frame_type is None or codec >= len(CODECS):
        raise RemoteProtocolError(f"frame kind {kind}, codec {codec}: unknown")
    if len(body) < _U16.size:
        raise RemoteProtocolError("frame body without a header length")
    (length,) = _U16.unpack_from(body)
    if _U16.size + length > len(body):
        raise RemoteProtocolError(f"header of {length} bytes in a body of {len(body)}")
    frame = _decode_header(frame_type, body[2 : 2 + length])
    _check_bounds(frame, RemoteProtocolError)
    data = memoryview(body)[2 + length :]
    if isinstance(frame, _WITH_HIDDEN):
        if isinstance(frame, ExpertCall):
            data = _split_call(frame, data)
        elif isinstance(frame, Handover) and frame.score:
            if len(data) < 4 * frame.rows:
                raise RemoteProtocolError(f"Handover: {len(data)} bytes of tensors, tokens need {4 * frame.rows}")
            frame.tokens = np.frombuffer(data, "<i4", frame.rows).astype(np.int32, copy=False)
            data = data[4 * frame.rows :]
        frame.hidden = decode_hidden(data, CODECS[codec], frame.rows, frame.width)
    elif isinstance(frame, Step):
        if len(data) != 4 * frame.rows:
            raise RemoteProtocolError(f"Step: {len(data)} bytes of tokens for {frame.rows} rows")
        frame.tokens = np.frombuffer(data, "<i4").astype(np.int32, copy=False)
    elif isinstance(frame, Scores):
        if len(data) != 4 * frame.rows:
            raise RemoteProtocolError(f"Scores: {len(data)} bytes for {frame.rows} rows")
        frame.logprobs = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
        if not np.isfinite(frame.logprobs).all():
            raise RemoteProtocolError("Scores: a log-probability is not finite")
    elif isinstance(frame, _WITH_PAYLOAD):
        frame.payload = bytes(data)
    elif len(data):
        raise RemoteProtocolError(f"{frame_type.__name__}: {len(data)} bytes after the header")
    if isinstance(frame, Hello) and frame.protocol != PROTOCOL:
        raise RemoteProtocolError(
            f"peer {frame.peer!r} speaks protocol {frame.protocol}, this side {PROTOCOL}",
            "install the same release on both boards",
        )
    return frame  # type: ignore[return-value]  # the table holds exactly the union's members


class FrameDecoder:
    """Bytes in, frames out. After an error it stays broken: a stream out of step cannot be trusted again."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._failure: RemoteProtocolError | None = None

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the stream, in any split."""
        self._buffer += data

    @property
    def pending(self) -> int:
        """Bytes received that no frame has used yet."""
        return len(self._buffer)

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None until more bytes come; RemoteProtocolError for good once broken."""
        if self._failure is not None:
            raise self._failure
        if not self._buffer:
            return None
        try:
            return self._next()
        except RemoteProtocolError as error:
            self._failure = error
            self._buffer.clear()
            raise

    def _next(self) -> Frame | None:
        if len(self._buffer) < PREFIX_BYTES:
            if not MAGIC.startswith(self._buffer[:4]):
                raise RemoteProtocolError(f"stream starts {bytes(self._buffer[:4])!r}, wanted {MAGIC!r}")
            return None
        magic, kind, codec, reserved, length, crc = _PREFIX.unpack_from(self._buffer)
        if magic != MAGIC or reserved != 0:
            raise RemoteProtocolError(f"frame starts {magic!r} with reserved {reserved}, wanted {MAGIC!r} and 0")
        if length > MAX_BODY_BYTES:
            raise RemoteProtocolError(f"frame promises {length} bytes; at most {MAX_BODY_BYTES}")
        if len(self._buffer) < PREFIX_BYTES + length:
            return None
        body = bytes(memoryview(self._buffer)[PREFIX_BYTES : PREFIX_BYTES + length])
        del self._buffer[: PREFIX_BYTES + length]
        if zlib.crc32(body) != crc:
            raise RemoteProtocolError(f"frame of kind {kind}: checksum does not match")
        return decode_body(kind, codec, body)
