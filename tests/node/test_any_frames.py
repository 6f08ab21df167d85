"""Whatever an admitted peer sends in well-formed frames, it is answered, refused or ignored, and the node lives.

A thread that dies ends its process, so that a node which lost one never looks alive: what is not expected is loud here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from hil_config.errors import LocalProtocolError
from hil_config.wire.frames import (
    Cancel,
    Delta,
    ExpertCall,
    ExpertReply,
    Frame,
    Handover,
    Hello,
    Refusal,
    Relayed,
    Route,
    Step,
    encode_frame,
)
from hil_config.wire.hidden_codec import Codec
from tests.node.nodes import RUN, Bench

FRAMES = 4000
NUMBERS = (0, 1, 2, 3, -1, 5, 7, 4096, 4097, 8192, 2**31 - 1, -(2**31), 2**40, 2**62)
LONG = ("\0" * 255, "\N{SATELLITE}" * 255)
"""The longest names that a frame takes, larger still where an answer repeats them in quotes."""


class Babbler:
    """Frames of any content that their format allows, some of it nearly right."""

    def __init__(self, seed: int, hidden: int, vocabulary: int) -> None:
        self._draw, self._numbers = random.Random(seed), np.random.default_rng(seed)
        self._hidden, self._vocabulary = hidden, vocabulary
        self._kinds: tuple[Callable[[], Frame], ...] = (
            self._call, self._reply, self._refusal, self._step, self._step, self._handover, self._handover,
            self._cancel, self._delta, self._relayed,
        )  # fmt: skip

    def frame(self) -> bytes:
        while True:
            try:
                return encode_frame(self._draw.choice(self._kinds)(), self._draw.choice(get_args(Codec)))
            except (LocalProtocolError, OverflowError):
                continue  # not even we may send that

    def _number(self) -> int:
        return self._draw.choice((*NUMBERS, self._draw.randrange(50)))

    def _name(self) -> str:
        return self._draw.choice(("a", "b", "c", "d", "client", "nobody", "", *LONG))

    def _route(self) -> Route:
        if self._draw.random() < 0.6:
            return Route(self._draw.choice((("a", "b"), ("a", "a"), ("b", "a"))), "client")
        return Route(tuple(self._name() for _ in range(self._draw.randrange(4))), self._name())

    def _rows(self) -> int:
        return self._draw.choice((1, 1, 1, 2, 3, 8, 65, 130))

    def _width(self) -> int:
        return self._draw.choice((self._hidden,) * 4 + (1, 7, self._hidden + 1))

    def _values(self, *shape: int) -> NDArray[np.float32]:
        size = self._draw.choice((0.0, 1.0, 1.0, 1e-30, 1e10, 3e38))
        return (self._numbers.uniform(-1.0, 1.0, shape) * size).astype(np.float32)

    def _tokens(self, rows: int) -> NDArray[np.int32]:
        beyond = 9 if self._draw.random() < 0.1 else 0
        return self._numbers.integers(-beyond, self._vocabulary + beyond, rows).astype(np.int32)

    def _call(self) -> ExpertCall:
        rows, width, picks = self._rows(), self._width(), self._draw.choice((1, 2, 4, 64))
        call = ExpertCall(
            self._number(), self._number(), self._draw.choice((0, 1, 2, 3, 4, -1, 99)), rows, width, picks,
            self._numbers.integers(-3, 20, (rows, picks)).astype(np.int16), self._values(rows, picks),
            self._values(rows, width), adapter=self._draw.choice(("", "", "", "nothing", *LONG)),
        )  # fmt: skip
        if self._draw.random() < 0.3:
            call.precisions = tuple((expert, self._draw.choice(("int8", "int4", "fp32"))) for expert in range(-1, 3))
        call.answer = self._draw.choice(("", *get_args(Codec)))
        return call

    def _reply(self) -> ExpertReply:
        rows, width = self._rows(), self._width()
        time_us = self._draw.choice((0.0, 1e-300, 1e15))
        return ExpertReply(self._number(), 1, time_us, time_us, rows, width, self._values(rows, width))

    def _refusal(self) -> Refusal:
        return Refusal(self._number(), self._number(), self._number(), "no")

    def _step(self) -> Step:
        rows, attempt = self._rows(), self._draw.choice((1, 1, 1, 2, self._number()))
        return Step(
            self._draw.randrange(30), attempt, self._draw.choice((0, 0, 0, 1, 5, -1, 2**40)),
            self._draw.choice((0, 1, 2, 5, -3, 2**40)), self._route(), rows, self._tokens(rows),
            score=self._draw.random() < 0.2, adapter=self._draw.choice(("", "", "", "nothing", *LONG)),
        )  # fmt: skip

    def _handover(self) -> Handover:
        rows, width, score = self._rows(), self._width(), self._draw.random() < 0.2
        return Handover(
            self._draw.randrange(30), 1, self._draw.choice((0, 0, 1, 2, -1)), self._draw.choice((0, 1, 3)),
            self._route(), self._draw.choice((0, 1, 1, 1, 2, -1, 99)), self._draw.choice((-1, 1, 2)), self._marks(),
            rows, width, self._values(rows, width), score, "", self._tokens(rows) if score else np.zeros(0, np.int32),
        )  # fmt: skip

    def _marks(self) -> tuple[str, ...]:
        return tuple(self._draw.choice(("lost", *LONG)) for _ in range(self._draw.choice((0, 0, 1, 16))))

    def _cancel(self) -> Cancel:
        return Cancel(self._draw.randrange(30), self._number())

    def _delta(self) -> Delta:
        relay = tuple(self._name() for _ in range(self._draw.randrange(3)))
        return Delta(self._name(), relay, self._name(), b"signature", bytes(self._draw.randrange(200)))

    def _relayed(self) -> Relayed:
        path = tuple(self._name() for _ in range(self._draw.randrange(1, 4)))
        return Relayed(self._name(), path, self.frame() if self._draw.random() < 0.5 else b"x")


@pytest.mark.parametrize("seed", [1, 3])
def test_no_well_formed_frame_ends_a_node(bench: Bench, seed: int) -> None:
    before = [token.token for token in bench.generate([0, 10, 11, 12], 4, request=100)]
    babbler = Babbler(seed, bench.manifest.model.hidden, bench.manifest.model.vocabulary)
    socks = {name: bench.dial(name) for name in bench.nodes}
    try:
        for sock in socks.values():
            sock.sendall(encode_frame(Hello("client", RUN, "client")))
        draw = random.Random(seed)
        for _ in range(FRAMES):
            socks[draw.choice("abcd")].sendall(babbler.frame())
        bench.send(Step(101, 1, 0, 4, Route(("a", "b"), "client"), 4, np.array([0, 10, 11, 12], np.int32)), "a")
        assert bench.wait(lambda: len(bench.of(101, 1)) == 4), bench.refusals[-3:]
        assert [token.token for token in bench.of(101, 1)] == before
        assert bench.refusals, "much of it was refused by name"
    finally:
        for sock in socks.values():
            sock.close()
