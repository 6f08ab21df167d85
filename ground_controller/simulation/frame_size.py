"""Bytes of the frames that model nodes would send: the real encoder, once for every shape."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

from hil_config.wire.frames import ExpertCall, ExpertReply, Handover, Relayed, Route, Step, encode_frame
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.manifest import Precision

_CALL, _REQUEST = 1 << 20, 1 << 10  # of the size that numbers have in a run: they take as many bytes


@cache
def call_bytes(
    rows: int, width: int, picks: int, codec: Codec, precisions: tuple[tuple[int, Precision], ...] = (),
    answer: Codec | Literal[""] = "",
) -> int:  # fmt: skip
    """Of an expert call. `precisions`, `answer`: as in the frame; only their lengths matter."""
    hidden = np.zeros((rows, width), np.float32)
    frame = ExpertCall(
        _CALL, _REQUEST, 1, rows, width, picks, np.zeros((rows, picks), np.int16), np.zeros((rows, picks), np.float32),
        hidden, "", precisions, answer,
    )  # fmt: skip
    return len(encode_frame(frame, codec))


@cache
def reply_bytes(rows: int, width: int, codec: Codec) -> int:
    """Of the answer to one."""
    frame = ExpertReply(_CALL, 1, 0.0, 0.0, rows, width, np.zeros((rows, width), np.float32))
    return len(encode_frame(frame, codec))


@cache
def handover_bytes(rows: int, width: int, gateways: tuple[str, ...], client: str, codec: Codec) -> int:
    """Of the hidden state to the next gateway."""
    hidden = np.zeros((rows, width), np.float32)
    frame = Handover(_REQUEST, 1, 100, 32, Route(gateways, client), 1, 100, (), rows, width, hidden)
    return len(encode_frame(frame, codec))


@cache
def step_bytes(rows: int, gateways: tuple[str, ...], client: str) -> int:
    """Of a step with its tokens."""
    frame = Step(_REQUEST, 1, 100, 32, Route(gateways, client), rows, np.zeros(rows, np.int32))
    return len(encode_frame(frame))


@cache
def relayed_bytes(source: str, path: tuple[str, ...], size: int) -> int:
    """Of the frame around a whole frame of `size` bytes that goes over others."""
    return len(encode_frame(Relayed(source, path, b""))) + size
