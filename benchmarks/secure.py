"""What security and codecs cost: TLS and seals against the clear transport, and bytes and error of each codec."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from benchmarks.median import median_us
from firmware_tools.identity import Authority, write_identity
from hil_config.seal import KeyRing
from hil_config.tls import identity_files
from hil_config.wire.frames import (
    ExpertCall,
    ExpertReply,
    Frame,
    FrameDecoder,
    Hello,
    Sealed,
    decode_plain,
    encode_frame,
    encode_plain,
)
from hil_config.wire.hidden_codec import CODECS, decode_hidden, encode_hidden
from node_agent.crew import Crew
from node_agent.link.incoming import Listener
from node_agent.link.outgoing import UNSHAPED, OutgoingLink
from node_agent.link.security import CLEAR, Security, secure

WIDTH, ROUNDS, SERIES = 2048, 300, 9
RUN = "bench"
MODES = ("clear", "TLS", "TLS and seals")


class _Side:
    """One end: listens, answers calls or keeps replies, and sends under the mode's protection."""

    def __init__(self, name: str, home: str, mode: str) -> None:
        self._name, self._other = name, "far" if name == "near" else "near"
        tls = identity_files(Path(home) / name)
        self.security: Security = CLEAR if mode == "clear" else secure(tls, name, f"boot-{name}")
        self.ring: KeyRing | None = self.security.ring if mode == "TLS and seals" else None
        self.replies: SimpleQueue[Frame] = SimpleQueue()
        self._crew = Crew()
        self._listener = Listener(
            self._crew, "127.0.0.1", 0, lambda hello: "", self._handle, lambda peer, reason: None, self.security.listen
        )
        self._crew.start("listener", self._listener.work)
        self.address = self._listener.address
        self._link: OutgoingLink | None = None

    def dial(self, address: tuple[str, int], offer: bytes) -> None:
        if self.ring is not None:
            self.ring.meet(RUN, offer)
        hello = encode_frame(Hello(self._name, RUN, "boot"))
        self._link = OutgoingLink(
            self._other, address, hello, lambda: UNSHAPED, lambda peer, reason: None, self.security.dial
        )
        self._link.open()

    def send(self, frame: Frame) -> None:
        assert self._link is not None
        data = encode_frame(frame) if self.ring is None else self.ring.seal(RUN, self._other, frame, "fp32")
        self._link.send(data)

    def _handle(self, peer: str, frame: Frame, received_s: float) -> None:
        if self.ring is not None and isinstance(frame, Sealed):
            frame = self.ring.open(RUN, frame)
        if isinstance(frame, ExpertCall):
            self.send(ExpertReply(frame.call, 0, 0.0, 0.0, frame.rows, frame.width, frame.hidden))
        else:
            self.replies.put(frame)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
        self._listener.close()
        self._crew.dismiss()


def _far(pipe: Connection, home: str) -> None:
    sides = []
    for mode in MODES:
        side = _Side("far", home, mode)
        pipe.send((side.address, side.security.offer))
        address, offer = pipe.recv()
        side.dial(address, offer)
        sides.append(side)
    pipe.send("ready")
    pipe.recv()
    for side in sides:
        side.close()


def _trips(call: ExpertCall, home: str) -> None:
    context = multiprocessing.get_context("spawn")
    pipe, far_pipe = context.Pipe()
    far = context.Process(target=_far, args=(far_pipe, home))
    far.start()
    sides = []
    for mode in MODES:
        side = _Side("near", home, mode)
        address, offer = pipe.recv()
        pipe.send((side.address, side.security.offer))
        side.dial(address, offer)
        sides.append(side)
    pipe.recv()

    def trip(side: _Side) -> None:
        side.send(call)
        side.replies.get(timeout=5.0)

    series = [[median_us(partial(trip, side), ROUNDS) for side in sides] for _ in range(SERIES)]
    medians = np.median(np.array(series), axis=0)
    for mode, us in zip(MODES, medians, strict=True):
        print(f"round trip, 8 kB each way, {mode}: {us:.0f} us, ratio to clear {us / medians[0]:.2f} "
              f"(median of {SERIES} interleaved series)", flush=True)  # fmt: skip
    pipe.send("end")
    for side in sides:
        side.close()
    far.join(5.0)


def _open_next(ring: KeyRing, sealed: Iterator[Sealed]) -> Frame:
    return ring.open(RUN, next(sealed))


def _frame_costs(call: ExpertCall, home: str) -> None:
    plain, whole = encode_plain(call), encode_frame(call)

    def decode() -> Frame | None:
        decoder = FrameDecoder()
        decoder.receive(whole)
        return decoder.next_frame()

    print(f"a frame of {len(whole)} bytes: encode {median_us(lambda: encode_frame(call), ROUNDS):.1f} us, "
          f"decode {median_us(decode, ROUNDS):.1f} us")  # fmt: skip
    base_encode, base_decode = (
        median_us(lambda: encode_plain(call), ROUNDS),
        median_us(lambda: decode_plain(plain), ROUNDS),
    )
    for aead in ("aes-256-gcm", "chacha20-poly1305"):
        near = KeyRing("near", "boot", identity_files(Path(home) / "near"))
        far = KeyRing("far", "boot", identity_files(Path(home) / "far"), aead)
        near.meet(RUN, far.offer)
        far.meet(RUN, near.offer)
        sealed: list[Sealed] = []
        for _ in range(ROUNDS):
            decoder = FrameDecoder()
            decoder.receive(near.seal(RUN, "far", call, "fp32"))
            frame = decoder.next_frame()
            assert isinstance(frame, Sealed)
            sealed.append(frame)
        seal_us = median_us(partial(near.seal, RUN, "far", call, "fp32"), ROUNDS)
        open_us = median_us(partial(_open_next, far, iter(sealed)), ROUNDS)
        print(f"  {aead}: seal {seal_us:.1f} us ({seal_us - base_encode:+.1f} over encoding), "
              f"open {open_us:.1f} us ({open_us - base_decode:+.1f} over decoding)", flush=True)  # fmt: skip


def _codecs() -> None:
    """Hidden states are not Gaussian: a few channels are far larger, which is what a scale per token suffers from."""
    chance = np.random.default_rng(0)
    hidden = chance.standard_normal((64, WIDTH)).astype(np.float32)
    spiky = hidden.copy()
    spiky[:, chance.choice(WIDTH, 8, replace=False)] *= 40.0
    for codec in CODECS:
        errors = []
        for states in (hidden, spiky):
            back = decode_hidden(encode_hidden(states, codec), codec, *states.shape)
            errors.append(float(np.linalg.norm(back - states) / np.linalg.norm(states)))
        one = hidden[:1]
        data = encode_hidden(one, codec)
        encode_us = median_us(partial(encode_hidden, one, codec), ROUNDS)
        decode_us = median_us(partial(decode_hidden, data, codec, 1, WIDTH), ROUNDS)
        print(f"codec {codec}: {len(data)} bytes a token of {WIDTH} ({len(data) / (4 * WIDTH):.3f} of fp32), relative "
              f"error {errors[0]:.1e} (normal), {errors[1]:.1e} (8 channels 40 times larger), encode {encode_us:.0f} "
              f"us, decode {decode_us:.0f} us", flush=True)  # fmt: skip


def run() -> None:
    """Identities are made in a temporary folder."""
    hidden = np.random.default_rng(0).standard_normal((1, WIDTH)).astype(np.float32)
    experts, weights = np.array([[1, 2]], np.int16), np.array([[0.6, 0.4]], np.float32)
    call = ExpertCall(1, 1, 0, 1, WIDTH, 2, experts, weights, hidden)
    with tempfile.TemporaryDirectory() as home:
        authority = Authority.create("bench")
        for name in ("near", "far"):
            write_identity(Path(home) / name, authority.issue(name))
        _trips(call, home)
        _frame_costs(call, home)
    _codecs()
