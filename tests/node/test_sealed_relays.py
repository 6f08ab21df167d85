"""Sealed frames and relays between real nodes: the tokens of one process, and relays that read nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil_config.errors import ConfigError
from hil_config.wire.frames import Cancel, Frame, FrameDecoder, Relayed, Sealed, encode_frame
from hil_config.wire.messages import NodeEvent
from tests.node.nodes import RUN, Bench, flat_schedule

NAMES = ("a", "b", "c", "d")
PROMPT = [0, 10, 11, 12]
APART = frozenset({("a", "b"), ("b", "a")})
"""The two gateways do not see one another."""


def _tokens(bench: Bench, count: int = 12) -> list[tuple[int, int, float]]:
    return [(t.position, t.token, t.logprob) for t in bench.generate(PROMPT, count)]


def _refusals(bench: Bench, node: str) -> list[str]:
    return [
        str(r.details["reason"])
        for r in list(bench.nodes[node].records)
        if isinstance(r, NodeEvent) and r.name == "FrameRefused"
    ]


@pytest.fixture
def made(reference_shards: Path, identities: Path) -> Any:
    benches: list[Bench] = []

    def make(**options: Any) -> Bench:
        benches.append(Bench(reference_shards, identities=identities, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def test_sealed_frames_carry_the_same_tokens(bench: Bench, made: Callable[..., Bench]) -> None:
    assert _tokens(made(sealed=True)) == _tokens(bench)


def test_gateways_apart_reach_each_other_over_a_relay_that_cannot_read(
    bench: Bench, made: Callable[..., Bench]
) -> None:
    apart = made(sealed=True, relay=True, schedule=flat_schedule(NAMES, 0.001, APART))
    seen: list[Frame] = []
    for name in ("c", "d"):
        context = apart.nodes[name].context
        assert context is not None
        taken = context.inbound.take

        def watch(peer: str, frame: Frame, take: Any = taken) -> Any:
            seen.append(frame)
            return take(peer, frame)

        context.inbound.take = watch  # type: ignore[method-assign]  # only looks, then does as before
    assert _tokens(apart) == _tokens(bench)
    relayed = [frame for frame in seen if isinstance(frame, Relayed)]
    assert relayed and {frame.path[-1] for frame in relayed} == {"a", "b"}
    for frame in relayed:
        decoder = FrameDecoder()
        decoder.receive(frame.payload)
        assert isinstance(decoder.next_frame(), Sealed)
    contexts = [apart.nodes[name].context for name in ("c", "d")]
    assert sum(context.inbound.relayed for context in contexts if context) == len(relayed)


def test_without_relays_gateways_apart_do_not_reach_each_other(reference_shards: Path) -> None:
    apart = Bench(reference_shards, schedule=flat_schedule(NAMES, 0.0, APART))
    try:
        context = apart.nodes["a"].context
        assert context is not None and not context.peers.reachable("b") and context.peers.reachable("c")
    finally:
        apart.close()


def test_relays_work_in_the_clear_too(bench: Bench, reference_shards: Path) -> None:
    apart = Bench(reference_shards, relay=True, schedule=flat_schedule(NAMES, 0.001, APART))
    try:
        context = apart.nodes["a"].context
        assert context is not None and context.peers.round_trip_s("b") == pytest.approx(0.004)
        assert _tokens(apart) == _tokens(bench)
    finally:
        apart.close()


def _connection(bench: Bench, to: str) -> socket.socket:
    bench.send(Cancel(99, 1), to)  # a first frame, rightly sealed
    return bench._out[to]


def test_clear_tampered_and_replayed_frames_are_refused_and_told(made: Callable[..., Bench]) -> None:
    bench = made(sealed=True)
    sock = _connection(bench, "a")
    assert bench.ring is not None
    good = bench.ring.seal(RUN, "a", Cancel(98, 1), "fp32")
    sock.sendall(encode_frame(Cancel(98, 1)))
    assert bench.wait(lambda: any("Cancel of 'client' is not sealed" in r for r in _refusals(bench, "a")))
    context = bench.nodes["a"].context
    assert context is not None

    pause = threading.Event()

    def refused(data: bytes) -> None:
        before = context.inbound.refusals
        sock.sendall(data)
        deadline = time.monotonic() + 10.0
        while context.inbound.refusals == before and time.monotonic() < deadline:
            pause.wait(0.002)
        assert context.inbound.refusals == before + 1

    decoder = FrameDecoder()
    decoder.receive(good)
    sealed = decoder.next_frame()
    assert isinstance(sealed, Sealed)
    refused(encode_frame(Sealed(sealed.sender, sealed.boot_id, "a", sealed.seq, sealed.payload[:-1] + b"\0")))
    sock.sendall(good)
    refused(good)
    refused(encode_frame(Relayed("client", ("a", "stranger"), good)))
    refused(encode_frame(Relayed("client", ("b", "a"), good)))
    refused(encode_frame(Relayed("client", ("a",), b"")))
    assert len(_tokens(bench, 4)) == 4, "it serves on"


def test_frames_go_on_after_the_connections_broke(bench: Bench, made: Callable[..., Bench]) -> None:
    sealed = made(sealed=True)
    first = _tokens(sealed)
    contexts = [node.context for node in sealed.nodes.values()]
    for context in contexts:
        assert context is not None
        for name in NAMES:
            if name != context.peers.node:
                context.peers.lost(name, "pulled by the test")
    for context in contexts:
        assert context is not None
        for name in NAMES:
            context.peers.returned(name)
    again = [(t.position, t.token, t.logprob) for t in sealed.generate(PROMPT, 12, request=2)]
    assert again == first == _tokens(bench)


def test_each_link_has_its_own_codec(bench: Bench, made: Callable[..., Bench]) -> None:
    plain = _tokens(bench)
    coarse = made(sealed=True, link_codecs={"d": "int4"})
    assert len(_tokens(coarse)) == len(plain)
    context = coarse.nodes["a"].context
    assert context is not None
    sizes = {report.peer: report.bytes / report.frames for report in context.peers.reports()}
    assert sizes["d"] < 0.7 * sizes["c"]


def test_a_node_without_certificate_refuses_a_sealed_run(reference_shards: Path) -> None:
    with pytest.raises(ConfigError, match="the run wants sealed frames, but this node has no certificate"):
        Bench(reference_shards, sealed=True)
