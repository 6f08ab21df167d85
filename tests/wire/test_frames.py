"""The frame codec, both ends joined in memory."""

from __future__ import annotations

import contextlib
import random
import struct
import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil_config.errors import LocalProtocolError, RemoteProtocolError
from hil_config.wire import frames as f
from hil_config.wire.hidden_codec import CODECS, GROUP, Codec, encode_hidden

ROUTE = f.Route(("alpha", "bravo"), "ground")


def hidden(rows: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def examples() -> list[f.Frame]:
    picks = np.array([[3, -1], [0, 7]], np.int16)
    weights = np.array([[0.7, 0.0], [0.5, 0.25]], np.float32)
    return [
        f.Hello("alpha", "run-1", "b00t"),
        f.Step(7, 2, 0, 5, ROUTE, 3, np.array([1, 2, 2047], np.int32)),
        f.Handover(7, 2, 4, 1, ROUTE, 1, 12, ("rerouted",), 2, 8, hidden(2, 8)),
        f.ExpertCall(1 << 40, 7, 3, 2, 8, 2, picks, weights, hidden(2, 8)),
        f.ExpertReply(1 << 40, 3, 1.5, 22.25, 2, 8, hidden(2, 8)),
        f.Refusal(9, 7, 2, "bravo is out of service"),
        f.Token(7, 2, 11, 42, -0.5, 1.25, ("lost", "rerouted")),
        f.Cancel(7, 2),
        f.Step(7, 2, 0, 5, ROUTE, 2, np.array([1, 2], np.int32), score=True),
        f.Handover(
            7, 2, 4, 1, ROUTE, 1, 12, (), 2, 8, hidden(2, 8), score=True, adapter="satire",
            tokens=np.array([5, 6], np.int32),
        ),
        f.ExpertCall(1 << 40, 7, 3, 2, 8, 2, picks, weights, hidden(2, 8), adapter="satire"),
        f.ExpertCall(5, 7, 3, 1, 8, 2, hidden=hidden(1, 8), row=((3, 7), (0.5, 0.25))),
        f.ExpertCall(5, 7, 3, 1, 8, 1, hidden=hidden(1, 8), adapter="satire", row=((63,), (1.0,))),
        f.Scores(7, 2, 0, ("rerouted",), 3, np.array([-0.5, -2.0, 0.0], np.float32)),
        f.Delta("satire", ("bravo",), "ground", b"signature", b"payload"),
        f.DeltaReply("bravo", "satire", 3, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("width", [1, 1104, f.MAX_WIDTH])
def test_the_most_rows_of_a_width_fit_with_any_picks(width: int) -> None:
    rows = f.most_rows(width)
    picks, weights = np.zeros((rows, f.MAX_PICKS), np.int16), np.ones((rows, f.MAX_PICKS), np.float32)
    call = f.ExpertCall(1 << 60, 1 << 60, 3, rows, width, f.MAX_PICKS, picks, weights, np.ones((rows, width), "f4"))
    for codec in CODECS:
        assert len(f.encode_frame(call, codec)) <= f.PREFIX_BYTES + f.MAX_BODY_BYTES
    assert rows == f.MAX_ROWS or 4 * width * (rows + rows // 4) > f.MAX_BODY_BYTES // 2, "and are not far from the most"


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    for name in a.__struct_fields__:
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, np.ndarray):
            if x.dtype != y.dtype or x.shape != y.shape or not np.array_equal(x, y):
                return False
        elif x != y:
            return False
    return True


@pytest.mark.parametrize("frame", examples(), ids=lambda frame: type(frame).__name__)
def test_every_split_of_the_bytes_gives_the_same_frames(frame: f.Frame) -> None:
    data = f.encode_frame(frame) * 2
    for cut in range(len(data) + 1):
        decoder = f.FrameDecoder()
        got = []
        for part in (data[:cut], data[cut:]):
            decoder.receive(part)
            while (found := decoder.next_frame()) is not None:
                got.append(found)
        assert len(got) == 2 and all(same(frame, one) for one in got), cut
        assert decoder.pending == 0


def test_frames_that_use_no_later_field_are_as_they_were_before_it() -> None:
    items = {type(frame).__name__: len(msgspec.msgpack.decode(f._bare_header(frame))) for frame in examples()[:8]}
    assert items == {
        "Hello": 4, "Step": 6, "Handover": 10, "ExpertCall": 6, "ExpertReply": 6, "Refusal": 4, "Token": 7, "Cancel": 2,
    }  # fmt: skip


def test_calls_over_the_same_rows_share_what_is_encoded() -> None:
    picks, weights, rows = np.array([[3], [0]], np.int16), np.ones((2, 1), np.float32), hidden(2, 8)
    shared: dict[str, bytes] = {}
    codecs: tuple[Codec, ...] = ("fp32", "int8", "fp32", "int8")
    for call, codec in enumerate(codecs):
        alone = f.ExpertCall(call, 7, 3, 2, 8, 1, picks, weights, rows)
        sharing = f.ExpertCall(call, 7, 3, 2, 8, 1, picks, weights, rows, encoded=shared)
        assert f.encode_frame(sharing, codec) == f.encode_frame(alone, codec)
        assert f.encode_plain(sharing, codec) == f.encode_plain(alone, codec)
    assert sorted(shared) == ["fp32", "int8"]


def test_a_row_as_plain_values_has_the_bytes_it_has_as_arrays() -> None:
    experts, weights = np.array([[3, -1, 63]], np.int16), np.array([[0.7, 0.0, 1e-30]], np.float32)
    arrays = f.ExpertCall(1, 7, 3, 1, 8, 3, experts, weights, hidden(1, 8))
    row = tuple(experts[0].tolist()), tuple(weights[0].tolist())
    assert f.encode_frame(f.ExpertCall(1, 7, 3, 1, 8, 3, hidden=hidden(1, 8), row=row)) == f.encode_frame(arrays)
    decoder = f.FrameDecoder()
    decoder.receive(f.encode_frame(arrays))
    found = decoder.next_frame()
    assert isinstance(found, f.ExpertCall) and found.row == row


@pytest.mark.parametrize("size", [7, 64, 211, 4096])
def test_frames_keep_nothing_of_the_buffer_they_were_read_from(size: int) -> None:
    """A receive buffer is written over once `next_frame` has returned None, be it in the middle of a frame."""
    sent, got = examples(), []
    data = b"".join(f.encode_frame(frame) for frame in sent)
    decoder, buffer = f.FrameDecoder(), bytearray(size)
    for at in range(0, len(data), size):
        part = data[at : at + size]
        buffer[: len(part)] = part
        decoder.receive(memoryview(buffer)[: len(part)])
        while (found := decoder.next_frame()) is not None:
            got.append(found)
        buffer[:] = b"\xff" * size
    assert len(got) == len(sent) and all(map(same, sent, got))


def test_byte_by_byte() -> None:
    decoder = f.FrameDecoder()
    sent = examples()
    got = []
    for byte in b"".join(f.encode_frame(frame) for frame in sent):
        decoder.receive(bytes([byte]))
        if (found := decoder.next_frame()) is not None:
            got.append(found)
    assert len(got) == len(sent) and all(map(same, sent, got))


@given(st.integers(1, 64), st.integers(1, 300), st.sampled_from(CODECS), st.integers(0, 2**32 - 1))
def test_hidden_states_come_back_within_the_codec_error(rows: int, width: int, codec: Any, seed: int) -> None:
    sent = hidden(rows, width, seed) * np.float32(10.0)
    decoder = f.FrameDecoder()
    decoder.receive(f.encode_frame(f.ExpertReply(1, 0, 0.0, 0.0, rows, width, sent), codec))
    got = decoder.next_frame()
    assert isinstance(got, f.ExpertReply)
    error = np.abs(got.hidden - sent)
    peak = np.abs(sent).max(axis=1, keepdims=True)
    if codec == "fp32":
        assert not error.any()
    elif codec == "fp16":
        assert (error <= np.abs(sent) * 2.0**-11 + 2.0**-24).all()
    elif codec == "int8":
        assert (error <= peak / 254 * 1.0001).all()
    else:
        padded = np.zeros((rows, -(-width // GROUP) * GROUP), np.float32)
        padded[:, :width] = np.abs(sent)
        group = np.repeat(padded.reshape(rows, -1, GROUP).max(axis=2), GROUP, axis=1)[:, :width]
        assert (error <= group / 14 * 1.001 + group * 2.0**-11 + 2.0**-20).all()


def test_values_that_are_not_finite_are_refused_at_both_ends() -> None:
    bad = hidden(1, 4)
    bad[0, 2] = np.nan
    with pytest.raises(LocalProtocolError, match="not finite"):
        encode_hidden(bad, "fp16")
    good = f.encode_frame(f.ExpertReply(1, 0, 0.0, 0.0, 1, 4, hidden(1, 4)))
    body = bytearray(good[f.PREFIX_BYTES :])
    body[-4:] = struct.pack("<f", float("inf"))
    decoder = f.FrameDecoder()
    decoder.receive(good[:12] + struct.pack("<I", zlib.crc32(body)) + body)
    with pytest.raises(RemoteProtocolError, match="not finite"):
        decoder.next_frame()


@pytest.mark.parametrize("times", [(-0.5, 1.0), (1.0, float("nan")), (float("inf"), 1.0), (0.0, 1e16)])
def test_times_that_nobody_can_have_taken_are_refused(times: tuple[float, float]) -> None:
    """They would go into the asking gateway's evidence."""
    decoder = f.FrameDecoder()
    decoder.receive(f.encode_frame(f.ExpertReply(1, 0, *times, 1, 4, hidden(1, 4))))
    with pytest.raises(RemoteProtocolError, match="ExpertReply: Expected `float`"):
        decoder.next_frame()


@pytest.mark.parametrize("rows", [1, 2])
def test_a_weight_that_is_not_finite_is_refused(rows: int) -> None:
    picks, weights = np.zeros((rows, 2), np.int16), np.full((rows, 2), 0.5, np.float32)
    weights[-1, 1] = np.inf
    decoder = f.FrameDecoder()
    decoder.receive(f.encode_frame(f.ExpertCall(1, 1, 0, rows, 4, 2, picks, weights, hidden(rows, 4))))
    with pytest.raises(RemoteProtocolError, match="weight is not finite"):
        decoder.next_frame()


def test_fp16_saturates_instead_of_overflowing() -> None:
    decoder = f.FrameDecoder()
    decoder.receive(f.encode_frame(f.ExpertReply(1, 0, 0.0, 0.0, 1, 1, np.full((1, 1), 1e9, np.float32)), "fp16"))
    got = decoder.next_frame()
    assert isinstance(got, f.ExpertReply) and got.hidden[0, 0] == 65504.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b"HTTP" + b[4:], "wanted b'SMH1'"),
        (lambda b: b[:8] + struct.pack("<I", f.MAX_BODY_BYTES + 1) + b[12:], "at most"),
        (lambda b: b[:4] + bytes([99]) + b[5:], "unknown"),
        (lambda b: b[:5] + bytes([9]) + b[6:], "unknown"),
        (lambda b: b[:-1] + bytes([b[-1] ^ 1]), "checksum"),
        (lambda b: b[:6] + b"\x01\x00" + b[8:], "reserved"),
    ],
)
def test_a_broken_frame_is_refused_for_good(change: Any, message: str) -> None:
    decoder = f.FrameDecoder()
    decoder.receive(change(f.encode_frame(examples()[4])))
    with pytest.raises(RemoteProtocolError, match=message):
        decoder.next_frame()
    decoder.receive(f.encode_frame(examples()[0]))
    with pytest.raises(RemoteProtocolError, match=message):
        decoder.next_frame()


def test_a_promise_of_too_many_bytes_is_refused_before_they_come() -> None:
    decoder = f.FrameDecoder()
    decoder.receive(struct.pack("<4sBBHII", b"SMH1", 5, 0, 0, 0xFFFFFFFF, 0))
    with pytest.raises(RemoteProtocolError, match="promises"):
        decoder.next_frame()


@pytest.mark.parametrize(
    "frame",
    [
        f.Step(1, 1, 0, 1, ROUTE, 4, np.zeros(3, np.int32)),
        f.ExpertReply(1, 0, 0.0, 0.0, 2, 4, hidden(1, 4)),
        f.ExpertReply(1, 0, 0.0, 0.0, 0, 4, hidden(0, 4)),
        f.ExpertCall(1, 1, 0, 1, 4, 3, np.zeros((1, 2), np.int16), np.zeros((1, 2), np.float32), hidden(1, 4)),
        f.ExpertCall(1, 1, 0, 1, 4, 3, hidden=hidden(1, 4), row=((1, 2), (0.5, 0.5))),
        f.ExpertCall(1, 1, 0, 1, 4, 2, hidden=hidden(1, 4), row=((1, 2), (0.5,))),
        f.ExpertCall(1, 1, 0, 2, 4, 2, hidden=hidden(2, 4), row=((1, 2), (0.5, 0.5))),
        f.Refusal(1, 1, 1, "x" * 70_000),
        f.Scores(1, 1, 0, (), 2, np.zeros(1, np.float32)),
        f.Scores(1, 1, 0, (), 1, np.array([-np.inf], np.float32)),
        f.Handover(1, 1, 0, 1, ROUTE, 1, 1, (), 1, 4, hidden(1, 4), score=True),
    ],
)
def test_our_own_mistakes_are_local_errors(frame: f.Frame) -> None:
    with pytest.raises(LocalProtocolError):
        f.encode_frame(frame)


@pytest.mark.parametrize(
    "frame",
    [
        f.Step(1, 1, 0, 1, ROUTE, 1, np.zeros(1, np.int32), adapter="x" * 256),
        f.Step(1, 1, 0, 1, f.Route(("x" * 256, "b"), "ground"), 1, np.zeros(1, np.int32)),
        f.Handover(1, 1, 0, 1, ROUTE, 1, 1, ("lost",) * 17, 1, 4, hidden(1, 4)),
        f.ExpertCall(
            1, 1, 0, 1, 4, 1, np.zeros((1, 1), np.int16), np.ones((1, 1), np.float32), hidden(1, 4), "x" * 256
        ),
        f.Delta("x" * 256, (), "ground", b""),
    ],
)
def test_names_that_an_answer_would_repeat_have_an_end(frame: f.Frame) -> None:
    """A node that refused a request by a name of 20,000 characters died of its own answer's header."""
    decoder = f.FrameDecoder()
    decoder.receive(f.encode_frame(frame))
    with pytest.raises(RemoteProtocolError, match=f"{type(frame).__name__}: Expected `(str|array)` of length <="):
        decoder.next_frame()


def test_another_protocol_version_names_the_remedy() -> None:
    decoder = f.FrameDecoder()
    decoder.receive(f.encode_frame(f.Hello("alpha", "r", "b", protocol=2)))
    with pytest.raises(RemoteProtocolError, match="protocol 2"):
        decoder.next_frame()


def mutate(rng: random.Random, data: bytes) -> bytes:
    """A damaged frame whose lengths and checksum are made right again most of the time, so that damage gets deep."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(4, len(out))
        action = rng.randrange(4)
        if action == 0:
            out[place] = rng.randrange(256)
        elif action == 1:
            out[place] ^= 1 << rng.randrange(8)
        elif action == 2 and len(out) > 24:
            del out[place : place + rng.randint(1, 8)]
        else:
            out[place:place] = rng.randbytes(rng.randint(1, 8))
    if rng.random() < 0.9 and len(out) >= f.PREFIX_BYTES:
        body = bytes(out[f.PREFIX_BYTES :])
        out[6:8] = b"\0\0"
        out[8:16] = struct.pack("<II", len(body), zlib.crc32(body))
    return bytes(out)


def test_a_million_mutated_frames_raise_protocol_errors_only() -> None:
    rng = random.Random(20260501)
    sources = [f.encode_frame(frame, codec) for frame in examples() for codec in CODECS]
    accepted = refused = waiting = 0
    for _ in range(1_000_000):
        decoder = f.FrameDecoder()
        decoder.receive(mutate(rng, rng.choice(sources)))
        try:
            found = decoder.next_frame()
        except RemoteProtocolError:
            refused += 1
            continue
        accepted += found is not None
        waiting += found is None
        if isinstance(found, f.Handover | f.ExpertCall | f.ExpertReply):
            assert np.isfinite(found.hidden).all()
    assert accepted + refused + waiting == 1_000_000
    assert refused > 500_000 and accepted > 10_000, "the mutations must reach both the checks and the decoder"


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_any_bytes_at_all(data: bytes) -> None:
    decoder = f.FrameDecoder()
    decoder.receive(data)
    if data[:4] and not b"SMH1".startswith(data[:4]):
        with pytest.raises(RemoteProtocolError):
            decoder.next_frame()
    else:
        with contextlib.suppress(RemoteProtocolError):
            assert decoder.next_frame() is None
