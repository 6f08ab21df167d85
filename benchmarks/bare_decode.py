"""The least that three processes can cost: the same sessions on the same cores, arrays as bytes over plain sockets.

No frames, deadlines, evidence, batching or failover; of the best experts half are asked for on either host. What this
takes longer than its sessions is processes and their wake-ups; what a decoded token takes longer than this is ours.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.dataplane import Places, as_a_service, places
from hil_config.wire.orders import ExpertHolding
from node_agent.engine.experts import ExpertBank
from node_agent.engine.kv_cache import RequestCache
from node_agent.engine.trunk import Rows, open_trunk
from node_agent.shards.store import ShardStore

HOSTS = ("h1", "h2")
_ASK = struct.Struct("<ii8h8f")
"""Layer (-1: the end), how many experts, which, and their weights; the row follows."""
_ANSWER = struct.Struct("<d")
"""Microseconds inside onnxruntime; the sum follows."""


def _read(sock: socket.socket, view: memoryview) -> None:
    got = 0
    while got < len(view):
        got += sock.recv_into(view[got:])


def _ask(layer: int, experts: list[int], weights: list[float]) -> bytes:
    more = 8 - len(experts)
    return _ASK.pack(layer, len(experts), *experts, *[0] * more, *weights, *[0.0] * more)


def _no_delay(sock: socket.socket) -> socket.socket:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _host(shards: str, place: Places, pipe: Connection) -> None:
    os.sched_setaffinity(0, place.pool)
    store = ShardStore(Path(shards))
    card = store.manifest.model
    bank = ExpertBank(
        store, tuple(ExpertHolding(n, e, "int4") for n in range(card.layers) for e in range(card.experts))
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname()[1])
        sock = _no_delay(server.accept()[0])
    data = bytearray(_ASK.size + 4 * card.hidden)
    row = np.frombuffer(data, np.float32, card.hidden, _ASK.size)[None]
    with sock:
        while True:
            _read(sock, memoryview(data))
            layer, count, *rest = _ASK.unpack_from(data)
            if layer < 0:
                return
            experts, weights = np.array([rest[:count]], np.int16), np.array([rest[8 : 8 + count]], np.float32)
            partial = bank.partial_sum(layer, row, experts, weights)
            sock.sendall(_ANSWER.pack(partial.runtime_us) + partial.total.tobytes())


def _gateway(shards: str, place: Places, ports: list[int], pipe: Connection) -> None:
    os.sched_setaffinity(0, place.pool)
    store = ShardStore(Path(shards))
    card = store.manifest.model
    trunk = open_trunk(store, tuple(range(card.layers)))
    os.sched_setaffinity(0, place.rest)
    socks = [_no_delay(socket.create_connection(("127.0.0.1", port))) for port in ports]
    data = [bytearray(_ANSWER.size + 4 * card.hidden) for _ in ports]
    sums = [np.frombuffer(part, np.float32, card.hidden, _ANSWER.size) for part in data]
    half = card.routing.top_k // len(ports)
    while count := pipe.recv():
        cache, token, found = RequestCache(card.cache_shape), 5, []
        for position in range(count):
            runtime_us, hidden = 0.0, trunk.embed(np.array([token], np.int32))
            for layer in range(card.layers):
                step = trunk.step(layer, [Rows(hidden, position, cache)])
                scores, row = step.scores[0], step.expert_input.tobytes()
                best = np.argpartition(-scores, half * len(ports))
                for number, sock in enumerate(socks):
                    chosen = best[number * half : (number + 1) * half]
                    sock.sendall(_ask(layer, chosen.tolist(), scores[chosen].tolist()) + row)
                step.keep()
                for sock, part in zip(socks, data, strict=True):
                    _read(sock, memoryview(part))
                runtime_us += step.runtime_us + max(_ANSWER.unpack_from(part)[0] for part in data)
                hidden = step.residual + sums[0] + sums[1]
            cache.advance(1)
            (choice,), head_us = trunk.choose(hidden)
            token = choice.token
            found.append((time.perf_counter(), runtime_us + head_us))
        pipe.send(found)
    for sock in socks:
        sock.sendall(_ask(-1, [], []) + bytes(4 * card.hidden))
        sock.close()


class Bare:
    """The three processes, alive until `close`."""

    def __init__(self, shards: Path) -> None:
        as_a_service()
        context = multiprocessing.get_context("spawn")
        where = places(("g",), HOSTS)
        ports = []
        for name in HOSTS:
            near, far = context.Pipe()
            context.Process(target=_host, args=(str(shards), where[name], far), daemon=True).start()
            ports.append(near.recv())
        self._pipe, far = context.Pipe()
        context.Process(target=_gateway, args=(str(shards), where["g"], ports, far), daemon=True).start()

    def decode(self, tokens: int) -> tuple[list[float], list[float]]:
        """Of each of `tokens` tokens after the first of a new request: milliseconds, and those inside onnxruntime."""
        self._pipe.send(tokens + 1)
        ends, runtimes = np.array(self._pipe.recv()).T
        return (np.diff(ends) * 1e3).tolist(), (runtimes[1:] / 1e3).tolist()

    def close(self) -> None:
        self._pipe.send(0)
