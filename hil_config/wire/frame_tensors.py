"""The tensors of each kind of frame: how they are written after its header, and read again.

Shapes stand in the header (`rows`, `width`, `picks`), dtypes follow from the kind. What does not fit is a
LocalProtocolError where we write it and a RemoteProtocolError where we read it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from hil_config.errors import LocalProtocolError, RemoteProtocolError
from hil_config.wire.frame_types import (
    PROTOCOL,
    Delta,
    ExpertCall,
    ExpertReply,
    FrameHeader,
    Handover,
    Hello,
    Relayed,
    Scores,
    Sealed,
    Step,
)
from hil_config.wire.hidden_codec import Codec, Hidden, decode_hidden, encode_hidden, finite

MAX_ROWS = 4096
MAX_WIDTH = 16384
MAX_PICKS = 64
_I2, _F4 = np.dtype("<i2"), np.dtype("<f4")

Parts = tuple[bytes, ...]
"""The tensors of a frame, one after the other."""


def _shaped(frame: Handover | ExpertCall | ExpertReply) -> Hidden:
    """The frame's hidden state, which must be what its header says."""
    if frame.hidden.shape != (frame.rows, frame.width):
        raise LocalProtocolError(
            f"{type(frame).__name__}: hidden {frame.hidden.shape}, header {(frame.rows, frame.width)}"
        )
    return frame.hidden


def _write_reply(frame: ExpertReply, codec: Codec) -> Parts:
    if not (0 < frame.rows <= MAX_ROWS and 0 < frame.width <= MAX_WIDTH):
        raise _out_of_bounds(frame, LocalProtocolError)
    return (encode_hidden(_shaped(frame), codec),)


_ROW = [struct.Struct(f"<{picks}h{picks}f") for picks in range(MAX_PICKS + 1)]
"""Experts and weights of a row with so many picks."""


def _write_picks(frame: ExpertCall) -> Parts:
    if frame.row is not None:
        experts, weights = frame.row
        if frame.rows != 1 or len(experts) != frame.picks or len(weights) != frame.picks:
            raise LocalProtocolError(f"ExpertCall: {len(experts)} experts, {len(weights)} weights, rows {frame.rows}")
        return (_ROW[frame.picks].pack(*experts, *weights),)
    shape = frame.rows, frame.picks
    if frame.experts.shape != shape or frame.weights.shape != shape:
        raise LocalProtocolError(f"ExpertCall: experts {frame.experts.shape}, weights {frame.weights.shape}")
    return frame.experts.astype(_I2, copy=False).tobytes(), frame.weights.astype(_F4, copy=False).tobytes()


def _write_call(frame: ExpertCall, codec: Codec) -> Parts:
    if not (0 < frame.rows <= MAX_ROWS and 0 < frame.width <= MAX_WIDTH and 0 < frame.picks <= MAX_PICKS):
        raise _out_of_bounds(frame, LocalProtocolError)
    hidden, known = _shaped(frame), frame.encoded
    encoded = None if known is None else known.get(codec)
    if encoded is None:
        encoded = encode_hidden(hidden, codec, checked=known is not None)
        if known is not None:
            known[codec] = encoded
    return (*_write_picks(frame), encoded)


def _write_handover(frame: Handover, codec: Codec) -> Parts:
    if not (0 < frame.rows <= MAX_ROWS and 0 < frame.width <= MAX_WIDTH):
        raise _out_of_bounds(frame, LocalProtocolError)
    hidden = encode_hidden(_shaped(frame), codec)
    if frame.tokens.shape != ((frame.rows,) if frame.score else (0,)):
        raise LocalProtocolError(f"Handover: tokens {frame.tokens.shape}, rows {frame.rows}, score {frame.score}")
    return frame.tokens.astype("<i4", copy=False).tobytes(), hidden


def _write_step(frame: Step, codec: Codec) -> Parts:
    if not 0 < frame.rows <= MAX_ROWS:
        raise _out_of_bounds(frame, LocalProtocolError)
    if frame.tokens.shape != (frame.rows,):
        raise LocalProtocolError(f"Step: tokens {frame.tokens.shape}, rows {frame.rows}")
    return (frame.tokens.astype("<i4", copy=False).tobytes(),)


def _write_scores(frame: Scores, codec: Codec) -> Parts:
    if not 0 < frame.rows <= MAX_ROWS:
        raise _out_of_bounds(frame, LocalProtocolError)
    if frame.logprobs.shape != (frame.rows,) or not np.isfinite(frame.logprobs).all():
        raise LocalProtocolError(f"Scores: log-probabilities {frame.logprobs.shape}, rows {frame.rows}")
    return (frame.logprobs.astype("<f4", copy=False).tobytes(),)


def _write_payload(frame: Delta | Sealed | Relayed, codec: Codec) -> Parts:
    return (frame.payload,)


WRITE: dict[type[FrameHeader], Callable[[Any, Codec], Parts]] = {
    ExpertReply: _write_reply, ExpertCall: _write_call, Handover: _write_handover, Step: _write_step,
    Scores: _write_scores, Delta: _write_payload, Sealed: _write_payload, Relayed: _write_payload,
}  # fmt: skip


def _out_of_bounds(frame: FrameHeader, error: type[LocalProtocolError] | type[RemoteProtocolError]) -> Exception:
    rows, width, picks = (getattr(frame, name, 1) for name in ("rows", "width", "picks"))
    return error(
        f"{type(frame).__name__}: rows {rows}, width {width}, picks {picks}; "
        f"wanted 1..{MAX_ROWS}, 1..{MAX_WIDTH}, 1..{MAX_PICKS}"
    )


def _read_reply(frame: ExpertReply, codec: Codec, data: memoryview) -> None:
    if not (0 < frame.rows <= MAX_ROWS and 0 < frame.width <= MAX_WIDTH):
        raise _out_of_bounds(frame, RemoteProtocolError)
    frame.hidden = decode_hidden(data, codec, frame.rows, frame.width)


def _read_call(frame: ExpertCall, codec: Codec, data: memoryview) -> None:
    rows, picks = shape = frame.rows, frame.picks
    if not (0 < rows <= MAX_ROWS and 0 < frame.width <= MAX_WIDTH and 0 < picks <= MAX_PICKS):
        raise _out_of_bounds(frame, RemoteProtocolError)
    count = rows * picks
    if len(data) < 6 * count:
        raise RemoteProtocolError(f"ExpertCall: {len(data)} bytes of tensors, picks need {6 * count}")
    if rows == 1:
        values = _ROW[picks].unpack_from(data)
        frame.row = values[:picks], values[picks:]
        whole = math.isfinite(sum(frame.row[1]))  # no sum of so few float32 is beyond a double
    else:
        frame.experts = np.ndarray(shape, _I2, data).copy()
        frame.weights = np.ndarray(shape, _F4, data, 2 * count).copy()
        whole = finite(frame.weights)
    if not whole:
        raise RemoteProtocolError("ExpertCall: a weight is not finite")
    frame.hidden = decode_hidden(data[6 * count :], codec, rows, frame.width)


def _read_handover(frame: Handover, codec: Codec, data: memoryview) -> None:
    if not (0 < frame.rows <= MAX_ROWS and 0 < frame.width <= MAX_WIDTH):
        raise _out_of_bounds(frame, RemoteProtocolError)
    if frame.score:
        if len(data) < 4 * frame.rows:
            raise RemoteProtocolError(f"Handover: {len(data)} bytes of tensors, tokens need {4 * frame.rows}")
        frame.tokens = np.frombuffer(data, "<i4", frame.rows).astype(np.int32)
        data = data[4 * frame.rows :]
    frame.hidden = decode_hidden(data, codec, frame.rows, frame.width)


def _read_step(frame: Step, codec: Codec, data: memoryview) -> None:
    if not 0 < frame.rows <= MAX_ROWS:
        raise _out_of_bounds(frame, RemoteProtocolError)
    if len(data) != 4 * frame.rows:
        raise RemoteProtocolError(f"Step: {len(data)} bytes of tokens for {frame.rows} rows")
    frame.tokens = np.frombuffer(data, "<i4").astype(np.int32)


def _read_scores(frame: Scores, codec: Codec, data: memoryview) -> None:
    if not 0 < frame.rows <= MAX_ROWS:
        raise _out_of_bounds(frame, RemoteProtocolError)
    if len(data) != 4 * frame.rows:
        raise RemoteProtocolError(f"Scores: {len(data)} bytes for {frame.rows} rows")
    frame.logprobs = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(frame.logprobs).all():
        raise RemoteProtocolError("Scores: a log-probability is not finite")


def _read_payload(frame: Delta | Sealed | Relayed, codec: Codec, data: memoryview) -> None:
    frame.payload = bytes(data)


def read_bare(frame: FrameHeader, codec: Codec, data: memoryview) -> None:
    if len(data):
        raise RemoteProtocolError(f"{type(frame).__name__}: {len(data)} bytes after the header")
    if isinstance(frame, Hello) and frame.protocol != PROTOCOL:
        raise RemoteProtocolError(
            f"peer {frame.peer!r} speaks protocol {frame.protocol}, this side {PROTOCOL}",
            "install the same release on both boards",
        )


READ: dict[type[FrameHeader], Callable[[Any, Codec, memoryview], None]] = {
    ExpertReply: _read_reply, ExpertCall: _read_call, Handover: _read_handover, Step: _read_step,
    Scores: _read_scores, Delta: _read_payload, Sealed: _read_payload, Relayed: _read_payload,
}  # fmt: skip
