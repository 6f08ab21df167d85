"""The hidden-state protocol: frames between nodes, sans-io.

A frame is 16 bytes of prefix and a body:

    magic "SMH1" | kind u8 | codec u8 | reserved u16 (0) | body length u32 | CRC-32 of the body u32
    body = u16 length of the header | header (MessagePack array of the frame's type) | tensor bytes

The header's type is known from `kind`; the tensors' dtypes follow from it, their shapes stand in the header
(`rows`, `width`, `picks`). All numbers little-endian. Nothing is read beyond what the prefix promises,
no promise above `MAX_BODY_BYTES` is believed, and every failure is a RemoteProtocolError: a peer can
neither make us allocate nor make us raise anything else.
"""

from __future__ import annotations

import struct
import zlib
from typing import ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from hil_config.errors import LocalProtocolError, RemoteProtocolError
from hil_config.wire.hidden_codec import CODECS, Codec, Hidden, decode_hidden, encode_hidden

PROTOCOL = 1
MAGIC = b"SMH1"
MAX_BODY_BYTES = 16 << 20
MAX_ROWS = 4096
MAX_WIDTH = 16384
MAX_PICKS = 64
_PREFIX = struct.Struct("<4sBBHII")
_U16 = struct.Struct("<H")
_CODEC_NUMBER = {codec: number for number, codec in enumerate(CODECS)}
PREFIX_BYTES = _PREFIX.size

Tokens = NDArray[np.int32]
Experts = NDArray[np.int16]
Weights = NDArray[np.float32]
_NONE_F: Hidden = np.zeros((0, 0), np.float32)
_NONE_T: Tokens = np.zeros(0, np.int32)
_NONE_E: Experts = np.zeros((0, 0), np.int16)


class _Frame(msgspec.Struct, array_like=True, forbid_unknown_fields=True, eq=False):
    """Header fields are array items; tensors are attributes set beside it (see `_TENSORS`)."""

    kind: ClassVar[int]


class Hello(_Frame):
    """First frame of every connection: who speaks and for which run."""

    kind: ClassVar[int] = 1
    peer: str
    run: str
    boot_id: str
    protocol: int = PROTOCOL


class Route(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The gateways a request's hidden state passes, one per trunk slice, and the client that waits."""

    gateways: tuple[str, ...]
    client: str


class Step(_Frame):
    """Client or last gateway -> first gateway: run tokens [rows] at positions start..start+rows-1.

    `remaining`: tokens still to generate after this step, this one included. `attempt` rises when the client
    starts a request again; frames of an older attempt are ignored.
    """

    kind: ClassVar[int] = 2
    request: int
    attempt: int
    start: int
    remaining: int
    route: Route
    rows: int
    tokens: Tokens = msgspec.field(default_factory=lambda: _NONE_T)


class Handover(_Frame):
    """Gateway -> next gateway: the hidden state [rows, width] entering trunk slice `stage`.

    `plan_version` pins the selection plan of this step for every gateway on the way.
    """

    kind: ClassVar[int] = 3
    request: int
    attempt: int
    start: int
    remaining: int
    route: Route
    stage: int
    plan_version: int
    degraded: tuple[str, ...]
    rows: int
    width: int
    hidden: Hidden = msgspec.field(default_factory=lambda: _NONE_F)


class ExpertCall(_Frame):
    """Gateway -> host: the weighted sum of experts [rows, picks] (-1 empty) of `layer` over rows [rows, width]."""

    kind: ClassVar[int] = 4
    call: int
    request: int
    layer: int
    rows: int
    width: int
    picks: int
    experts: Experts = msgspec.field(default_factory=lambda: _NONE_E)
    weights: Weights = msgspec.field(default_factory=lambda: _NONE_F)
    hidden: Hidden = msgspec.field(default_factory=lambda: _NONE_F)


class ExpertReply(_Frame):
    """Host -> gateway: the partial sums [rows, width], with the microseconds they waited and took."""

    kind: ClassVar[int] = 5
    call: int
    layer: int
    queue_us: float
    expert_us: float
    rows: int
    width: int
    hidden: Hidden = msgspec.field(default_factory=lambda: _NONE_F)


class Refusal(_Frame):
    """Host -> gateway, or gateway -> client: this call or request is not served, and why."""

    kind: ClassVar[int] = 6
    call: int
    request: int
    attempt: int
    reason: str


class Token(_Frame):
    """Last gateway -> client: the token at `position`. `degraded` names what was lost on the way."""

    kind: ClassVar[int] = 7
    request: int
    attempt: int
    position: int
    token: int
    logprob: float
    margin: float
    degraded: tuple[str, ...]


class Cancel(_Frame):
    """Forget attempts of `request` up to `attempt`: frees its key-value cache."""

    kind: ClassVar[int] = 8
    request: int
    attempt: int


Frame = Hello | Step | Handover | ExpertCall | ExpertReply | Refusal | Token | Cancel
_TYPES: dict[int, type[_Frame]] = {
    t.kind: t for t in (Hello, Step, Handover, ExpertCall, ExpertReply, Refusal, Token, Cancel)
}
_WITH_HIDDEN = (Handover, ExpertCall, ExpertReply)


def _bare_header(frame: _Frame) -> bytes:
    """The header without its tensors: the array items before the first tensor field."""
    fields = _HEADER_FIELDS[type(frame)]
    return msgspec.msgpack.encode([getattr(frame, name) for name in fields])


_TENSOR_FIELDS = {"tokens", "experts", "weights", "hidden"}
_HEADER_FIELDS: dict[type[_Frame], tuple[str, ...]] = {
    t: tuple(name for name in t.__struct_fields__ if name not in _TENSOR_FIELDS) for t in _TYPES.values()
}


def _header_decoder(kind: type[_Frame]) -> msgspec.msgpack.Decoder[tuple[object, ...]]:
    types = msgspec.structs.fields(kind)
    items = tuple(field.type for field in types if field.name not in _TENSOR_FIELDS)
    return msgspec.msgpack.Decoder(tuple.__class_getitem__(items))


_DECODERS = {kind: _header_decoder(kind) for kind in _TYPES.values()}


def _tensors(frame: _Frame, codec: Codec) -> bytes:
    if isinstance(frame, Step):
        if frame.tokens.shape != (frame.rows,):
            raise LocalProtocolError(f"Step: tokens {frame.tokens.shape}, rows {frame.rows}")
        return frame.tokens.astype("<i4", copy=False).tobytes()
    if not isinstance(frame, _WITH_HIDDEN):
        return b""
    if frame.hidden.shape != (frame.rows, frame.width):
        raise LocalProtocolError(
            f"{type(frame).__name__}: hidden {frame.hidden.shape}, header {(frame.rows, frame.width)}"
        )
    hidden = encode_hidden(frame.hidden, codec)
    if not isinstance(frame, ExpertCall):
        return hidden
    shape = (frame.rows, frame.picks)
    if frame.experts.shape != shape or frame.weights.shape != shape:
        raise LocalProtocolError(f"ExpertCall: experts {frame.experts.shape}, weights {frame.weights.shape}")
    experts = frame.experts.astype("<i2", copy=False).tobytes()
    return experts + frame.weights.astype("<f4", copy=False).tobytes() + hidden


def encode_frame(frame: Frame, codec: Codec = "fp32") -> bytes:
    """The frame's bytes; LocalProtocolError if we would break our own rules."""
    _check_bounds(frame, LocalProtocolError)
    header = _bare_header(frame)
    if len(header) > 0xFFFF:
        raise LocalProtocolError(f"{type(frame).__name__}: header of {len(header)} bytes; at most 65535")
    head = _U16.pack(len(header)) + header
    tensors = _tensors(frame, codec)
    length = len(head) + len(tensors)
    if length > MAX_BODY_BYTES:
        raise LocalProtocolError(f"{type(frame).__name__}: {length} bytes; at most {MAX_BODY_BYTES}")
    crc = zlib.crc32(tensors, zlib.crc32(head))
    prefix = _PREFIX.pack(MAGIC, frame.kind, _CODEC_NUMBER[codec], 0, length, crc)
    return b"".join((prefix, head, tensors))


def _check_bounds(frame: _Frame, error: type[LocalProtocolError] | type[RemoteProtocolError]) -> None:
    rows, width = getattr(frame, "rows", 1), getattr(frame, "width", 1)
    picks = getattr(frame, "picks", 1)
    if not (1 <= rows <= MAX_ROWS and 1 <= width <= MAX_WIDTH and 1 <= picks <= MAX_PICKS):
        raise error(
            f"{type(frame).__name__}: rows {rows}, width {width}, picks {picks}; "
            f"wanted 1..{MAX_ROWS}, 1..{MAX_WIDTH}, 1..{MAX_PICKS}"
        )


def _split_call(frame: ExpertCall, data: memoryview) -> memoryview:
    count = frame.rows * frame.picks
    if len(data) < 6 * count:
        raise RemoteProtocolError(f"ExpertCall: {len(data)} bytes of tensors, picks need {6 * count}")
    frame.experts = np.frombuffer(data, "<i2", count).reshape(frame.rows, frame.picks)
    frame.weights = np.frombuffer(data, "<f4", count, 2 * count).reshape(frame.rows, frame.picks)
    if not np.isfinite(frame.weights).all():
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
    try:
        frame = frame_type(*_DECODERS[frame_type].decode(body[2 : 2 + length]))
    except (ValueError, TypeError, RecursionError) as error:  # msgspec errors and a bare UnicodeDecodeError
        raise RemoteProtocolError(f"{frame_type.__name__}: {error}") from error
    _check_bounds(frame, RemoteProtocolError)
    data = memoryview(body)[2 + length :]
    if isinstance(frame, Step):
        if len(data) != 4 * frame.rows:
            raise RemoteProtocolError(f"Step: {len(data)} bytes of tokens for {frame.rows} rows")
        frame.tokens = np.frombuffer(data, "<i4").astype(np.int32, copy=False)
    elif isinstance(frame, _WITH_HIDDEN):
        if isinstance(frame, ExpertCall):
            data = _split_call(frame, data)
        frame.hidden = decode_hidden(data, CODECS[codec], frame.rows, frame.width)
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
