"""Nodes of one bench in one process: real listeners, links, shards and threads; only the broker is left out."""

from __future__ import annotations

import hashlib
import socket
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hil_config.tls import connect, identity_files
from hil_config.wire.frames import (
    Delta,
    DeltaReply,
    Frame,
    Hello,
    Refusal,
    Route,
    Scores,
    Sealed,
    Step,
    Token,
    encode_frame,
)
from hil_config.wire.link_schedule import ScheduleHeader
from hil_config.wire.manifest import Manifest, manifest_hash
from hil_config.wire.messages import TokenEvidence, encode
from hil_config.wire.orders import ExpertHolding, Peer, Prepare
from hil_config.wire.plan import GatewaySlice, LayerPlan, SelectionPlan, Share
from hil_config.wire.schedule_changes import Samples, schedule_of
from hil_config.wire.schedule_file import encode_schedule
from node_agent.crew import Crew
from node_agent.link.incoming import Listener
from node_agent.link.security import CLEAR, Security, secure
from node_agent.run_context import RunContext
from node_agent.shards.store import ShardStore

RUN = "test-run"


def flat_schedule(
    names: tuple[str, ...],
    delay_s: float = 0.0,
    down: frozenset[tuple[str, str]] = frozenset(),
    rate_bit_s: float = 1e9,
) -> bytes:
    """Constant links between all satellites; pairs in `down` never exist."""
    pairs = tuple((a, b) for a in names for b in names if a != b)
    n, p, s = 2, len(pairs), len(names)
    up = np.array([[(pair not in down) for pair in pairs]] * n, np.uint8)
    header = ScheduleHeader(
        epoch_utc="2024-10-21T08:20:00Z", duration_s=1e6, step_s=1e6, satellites=names, pairs=pairs, source="test"
    )
    samples = Samples(
        np.array([0.0, 1e6]),
        np.full((n, p), delay_s),
        np.full((n, p), rate_bit_s),
        np.zeros((n, p)),
        up,
        np.ones((n, s)),
    )
    return encode_schedule(schedule_of(header, samples))


def plain_plan(manifest: Manifest, names: tuple[str, ...], copies: int = 2, **changes: Any) -> SelectionPlan:
    """Top-k over experts dealt round robin, `copies` each; two trunk slices with a standby."""
    card, n = manifest.model, len(names)
    hosts = tuple(tuple(Share((e + c) % n, 1.0) for c in range(copies)) for e in range(card.experts))
    layer = LayerPlan((0.0,) * card.experts, hosts, (-1,) * card.experts)
    half = card.layers // 2
    slices = (
        GatewaySlice(0, half - 1, (names[0], names[2 % n])),
        GatewaySlice(half, card.layers - 1, (names[1 % n], names[3 % n])),
    )
    fields: dict[str, Any] = {
        "version": 1, "epoch": 1, "issued_s": 0.0, "ttl_s": 1e6, "policy": "topk", "reason": "test", "scale": 1.0,
        "coverage": 1.0, "k_min": card.routing.top_k, "k_max": card.routing.top_k, "threshold": -1e9,
        "nodes": names, "gateways": slices, "layers": (layer,) * card.layers,
    }  # fmt: skip
    return SelectionPlan(**{**fields, **changes})


class Node:
    """One node's data plane."""

    def __init__(self, name: str, shards: Path, security: Security = CLEAR) -> None:
        self.name = name
        self.crew = Crew()
        self.store = ShardStore(shards)
        self.records: list[Any] = []
        self.context: RunContext | None = None
        self.security = security
        self.refused: list[str] = []
        self.listener = Listener(self.crew, "127.0.0.1", 0, self._admit, self._handle, self._gone, security.listen)
        self.crew.start("listener", self.listener.work)

    def _admit(self, hello: Hello) -> str:
        assert self.context is not None
        refusal = self.context.admit(hello)
        if not refusal:
            self.context.peers.returned(hello.peer)
        return refusal

    def _handle(self, peer: str, frame: Frame, received_s: float) -> None:
        assert self.context is not None
        self.context.handle(peer, frame, received_s)

    def _gone(self, peer: str, reason: str) -> None:
        if not peer:
            self.refused.append(reason)
        if self.context is not None:
            self.context.gone(peer, reason)

    def close(self) -> None:
        if self.context is not None:
            self.context.close()
        self.listener.close()
        self.crew.dismiss()


class Bench:
    """Nodes and a client that sends steps and collects tokens."""

    def __init__(
        self, shards: Path, names: tuple[str, ...] = ("a", "b", "c", "d"), precision: Any = "int8", copies: int = 2,
        schedule: bytes | None = None, codec: Any = "fp32", plan: SelectionPlan | None = None, timeout_s: float = 2.0,
        identities: Path | None = None, sealed: bool = False, relay: bool = False,
        link_codecs: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        def security(name: str) -> Security:
            return secure(None if identities is None else identity_files(identities / name), name, f"boot-{name}")

        self.nodes = {name: Node(name, shards, security(name)) for name in names}
        self.security = security("client")
        self.manifest = next(iter(self.nodes.values())).store.manifest
        self.plan = plan or plain_plan(self.manifest, names, copies)
        self._crew = Crew()
        self._arrived = threading.Condition()
        self.tokens: list[Token] = []
        self.refusals: list[Refusal] = []
        self.scores: list[Scores] = []
        self.delta_replies: list[DeltaReply] = []
        self._out: dict[str, socket.socket] = {}
        self.listener = Listener(
            self._crew, "127.0.0.1", 0, lambda hello: "", self._handle, lambda peer, reason: None,
            self.security.listen,
        )  # fmt: skip
        self._crew.start("client", self.listener.work)
        data = schedule or flat_schedule(names)
        ports = {
            **{n: node.listener.address[1] for n, node in self.nodes.items()},
            "client": self.listener.address[1],
        }
        offers = {"client": self.security.offer, **{n: node.security.offer for n, node in self.nodes.items()}}
        peers = tuple(Peer(name, f"127.0.0.1:{port}", offers[name]) for name, port in ports.items())
        self.ring = self.security.ring if sealed else None
        if self.ring is not None:
            for name in names:
                self.ring.meet(RUN, offers[name])
        for index, (name, node) in enumerate(self.nodes.items()):
            held = tuple(
                ExpertHolding(layer, e, precision)
                for layer, entry in enumerate(self.plan.layers)
                for e, hosts in enumerate(entry.hosts)
                if index in {share.node for share in hosts}
            )
            order = Prepare(
                run=RUN, peers=peers, manifest_sha256=manifest_hash(self.manifest),
                trunk_layers=tuple(range(self.manifest.model.layers)), experts=held, schedule=data,
                schedule_sha256=hashlib.sha256(data).hexdigest(), satellites={n: n for n in names},
                delay_scale=1.0, hidden_codec=codec, expert_timeout_s=timeout_s, plan=self.plan,
                sealed=sealed, relay=relay, link_codecs=link_codecs or {}, routed=bool(self.plan.routes),
            )  # fmt: skip
            node.context = RunContext(name, f"boot-{name}", order, node.store, partial(self._keep, node), node.security)
        for node in self.nodes.values():
            assert node.context is not None
            node.context.hosts.floor_s = timeout_s  # a busy machine is no slow host: another expert would step in
            node.context.start()

    def _handle(self, peer: str, frame: Frame, received_s: float) -> None:
        if self.ring is not None:
            assert isinstance(frame, Sealed), f"{type(frame).__name__} came in the clear"
            frame = self.ring.open(RUN, frame)
        with self._arrived:
            if isinstance(frame, Token):
                self.tokens.append(frame)
            elif isinstance(frame, Refusal):
                self.refusals.append(frame)
            elif isinstance(frame, Scores):
                self.scores.append(frame)
            elif isinstance(frame, DeltaReply):
                self.delta_replies.append(frame)
            self._arrived.notify_all()

    def send(self, frame: Frame, to: str) -> None:
        sock = self._out.get(to)
        if sock is None:
            sock = self._out[to] = self.dial(to)
            sock.sendall(encode_frame(Hello("client", RUN, "client", offer=self.security.offer)))
        sock.sendall(encode_frame(frame) if self.ring is None else self.ring.seal(RUN, to, frame, "fp32"))

    def dial(self, to: str) -> socket.socket:
        address = self.nodes[to].listener.address
        if self.security.dial is not None:
            return connect(address, self.security.dial, to, 5.0)
        return socket.create_connection(address, 5.0)

    def evidence(self, tokens: int) -> list[TokenEvidence]:
        """All evidence, once `tokens` tokens are in it (it is recorded just after the token went out)."""

        def found() -> list[TokenEvidence]:
            return [r for node in self.nodes.values() for r in list(node.records) if isinstance(r, TokenEvidence)]

        assert self.wait(lambda: sum(e.token >= 0 for e in found()) >= tokens)
        return found()

    def _keep(self, node: Node, record: Any) -> None:
        with self._arrived:
            node.records.append(record)
            encode(record)  # what the wire cannot carry must fail here too
            self._arrived.notify_all()

    def wait(self, done: Any, timeout_s: float = 30.0) -> bool:
        with self._arrived:
            return bool(self._arrived.wait_for(done, timeout_s))

    def generate(
        self, prompt: list[int], count: int, request: int = 1, attempt: int = 1, route: Any = None, adapter: str = ""
    ) -> list[Token]:
        """Greedy tokens of one request; stops at a refusal."""
        gateways = route or tuple(piece.nodes[0] for piece in self.plan.gateways)
        step = Step(request, attempt, 0, count, Route(gateways, "client"), len(prompt), np.array(prompt, np.int32))
        step.adapter = adapter
        self.send(step, gateways[0])
        end = self.manifest.model.end_of_text

        def done() -> bool:
            mine = self.of(request, attempt)
            return len(mine) >= count or bool(self.refusals) or bool(mine and mine[-1].token == end)

        assert self.wait(done), f"{len(self.of(request, attempt))} of {count} tokens came"
        return self.of(request, attempt)

    def score(self, tokens: list[int], request: int = 1, adapter: str = "") -> list[float]:
        """Log-probabilities of `tokens` but the first; empty at a refusal."""
        gateways = tuple(piece.nodes[0] for piece in self.plan.gateways)
        step = Step(
            request, 1, 0, 1, Route(gateways, "client"), len(tokens), np.array(tokens, np.int32), score=True,
            adapter=adapter,
        )  # fmt: skip
        self.send(step, gateways[0])

        def mine() -> list[Scores]:
            return [s for s in self.scores if s.request == request]

        assert self.wait(lambda: mine() or self.refusals)
        return mine()[0].logprobs.tolist() if mine() else []

    def install(self, name: str, payload: bytes, signature: str = "") -> list[DeltaReply]:
        """Send a delta to the first node, which passes it on along the others; one reply of each, by node."""
        first, *rest = self.nodes
        before = len(self.delta_replies)
        self.send(Delta(name, tuple(rest), "client", signature.encode(), payload), first)

        def done() -> bool:
            mine = self.delta_replies[before:]
            return len(mine) == len(self.nodes) or any(reply.problem for reply in mine)

        assert self.wait(done)
        return sorted(self.delta_replies[before:], key=lambda reply: reply.node)

    def context(self, name: str) -> RunContext:
        """The run of a node, which is in one."""
        found = self.nodes[name].context
        assert found is not None
        return found

    def of(self, request: int, attempt: int) -> list[Token]:
        return [t for t in self.tokens if (t.request, t.attempt) == (request, attempt)]

    def close(self) -> None:
        for sock in self._out.values():
            sock.close()
        for node in self.nodes.values():
            node.close()
        self.listener.close()
        self._crew.dismiss()
