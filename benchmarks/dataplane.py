"""Nodes without broker or orbit, one process each, and a client in this one: what the decode benchmarks run on."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from importlib import resources
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from hil_config.wire.frames import Cancel, Frame, Hello, Refusal, Route, Step, Token, encode_frame
from hil_config.wire.link_schedule import ScheduleHeader
from hil_config.wire.manifest import Manifest, ModelCard, Precision, manifest_hash, read_manifest
from hil_config.wire.messages import TokenEvidence
from hil_config.wire.orders import ExpertHolding, Peer, Prepare
from hil_config.wire.plan import GatewaySlice, LayerPlan, SelectionPlan, Share
from hil_config.wire.schedule_changes import Samples, schedule_of
from hil_config.wire.schedule_file import encode_schedule
from node_agent.crew import Crew
from node_agent.link.incoming import Listener
from node_agent.link.outgoing import UNSHAPED, OutgoingLink
from node_agent.run_context import RunContext
from node_agent.shards.store import ShardStore

RUN, CLIENT = "bench", "client"
PREPARE_S = 600.0


class StepTime(NamedTuple):
    """One decoded step at the gateway, microseconds: onnxruntime on its critical path, and the whole step."""

    request: int
    start: int
    trunk_us: float
    expert_us: float
    head_us: float
    link_us: float
    queue_us: float
    total_us: float


def plan(
    card: ModelCard, nodes: tuple[str, ...], gateways: tuple[str, ...], hosts: tuple[str, ...], copies: int
) -> SelectionPlan:
    """Plain top-k; experts dealt round robin over `hosts`, `copies` each with equal shares of the rows."""
    index = [nodes.index(name) for name in hosts]
    shares = tuple(
        tuple(Share(index[(e + c) % len(index)], 1.0 / copies) for c in range(copies)) for e in range(card.experts)
    )
    layer = LayerPlan((0.0,) * card.experts, shares, (-1,) * card.experts)
    k = card.routing.top_k
    return SelectionPlan(
        1, 1, 0.0, 1e9, "topk", "benchmark", 1.0, 1.0, k, k, -1e9, nodes,
        (GatewaySlice(0, card.layers - 1, gateways),), (layer,) * card.layers,
    )  # fmt: skip


def no_orbit(nodes: tuple[str, ...]) -> bytes:
    """A schedule that names no link: peers without a satellite are not shaped."""
    header = ScheduleHeader(
        epoch_utc="2024-10-21T08:20:00Z", duration_s=1e9, step_s=1e9, satellites=nodes, pairs=(), source="benchmark"
    )
    none, s = np.zeros((2, 0)), len(nodes)
    samples = Samples(np.array([0.0, 1e9]), none, none, none, np.zeros((2, 0), np.uint8), np.ones((2, s)))
    return encode_schedule(schedule_of(header, samples))


def as_a_service() -> None:
    """Processes started from now on get the environment of the agent's unit, where it is not set otherwise."""
    unit = resources.files("node_agent").joinpath("systemd/hil-agent.service").read_text("utf-8")
    for line in unit.splitlines():
        if line.startswith("Environment="):
            for setting in line.removeprefix("Environment=").split():
                name, _, value = setting.partition("=")
                os.environ.setdefault(name, value)


class Places(NamedTuple):
    """Cores of a node's process: of onnxruntime's own threads, and of all others."""

    pool: tuple[int, ...]
    rest: tuple[int, ...]


def places(gateways: tuple[str, ...], hosts: tuple[str, ...]) -> dict[str, Places]:
    """Each host on a core to itself, as on a board of its own; a gateway with two, its own threads on one of them and
    the workers of its sessions on the others. As far as there are cores: on two, a gateway shares its own with a host,
    and they meet only when the other host's reply comes first. Left to itself the system now and then has both hosts,
    or a gateway and its worker, on one core while the other is idle, for milliseconds."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    found = {name: Places(cores[1:] or cores, cores[:1]) for name in gateways}
    for number, name in enumerate(hosts):
        core = (cores[(number + 1) % len(cores)],)
        found.setdefault(name, Places(core, core))
    return found


def _serve(name: str, shards: str, threads: int, place: Places | None, pipe: Connection, port: int) -> None:
    """A node's process: told what to prepare, then serves until the pipe says stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if place is not None:
        os.sched_setaffinity(0, place.pool)  # threads inherit it: sessions are opened first
    store, crew = ShardStore(Path(shards), trunk_threads=threads), Crew()
    contexts: list[RunContext] = []
    steps: list[StepTime] = []

    def admit(hello: Hello) -> str:
        contexts[0].peers.returned(hello.peer)
        return contexts[0].admit(hello)

    def record(body: Any) -> None:
        if isinstance(body, TokenEvidence) and body.rows == 1:
            parts = [
                sum(getattr(layer, part) for layer in body.layers)
                for part in ("trunk_us", "expert_us", "link_us", "queue_us")
            ]
            steps.append(
                StepTime(body.request, body.start, parts[0], parts[1], body.head_us, parts[2], parts[3], body.total_us)
            )

    listener = Listener(
        crew, "127.0.0.1", port, admit,
        lambda peer, frame, s: contexts[0].handle(peer, frame, s),  # noqa: PLW0108  # there is none yet
        lambda peer, reason: contexts[0].gone(peer, reason),  # noqa: PLW0108
    )  # fmt: skip
    pipe.send(listener.address[1])
    order = msgspec.json.decode(pipe.recv_bytes(), type=Prepare)
    contexts.append(RunContext(name, f"boot-{name}", order, store, record))
    if place is not None:
        os.sched_setaffinity(0, place.rest)
    contexts[0].start()
    crew.start("listener", listener.work)
    pipe.send(os.getpid())
    while (asked := pipe.recv()) != "stop":
        gateway = contexts[0].gateway
        if asked == "steps":
            pipe.send((list(steps), gateway.batches, gateway.batched_steps, time.process_time()))
            steps.clear()
            gateway.batches = gateway.batched_steps = 0
        elif asked == "unreachable":
            peers = contexts[0].peers
            pipe.send([peer.name for peer in order.peers if peer.name != name and not peers.reachable(peer.name)])
    contexts[0].close()
    listener.close()
    crew.dismiss()


class Fleet:
    """Processes of a model folder. `gateways` hold the trunk, `hosts` the experts, each node once.

    Args:
        threads: of the gateway's trunk sessions, 0 by their size; hosts have one.
        precision: of the experts.
        clients: more peers that may ask, by name.
        own_cores: see `places`.
    """

    def __init__(
        self,
        shards: Path,
        gateways: tuple[str, ...],
        hosts: tuple[str, ...],
        copies: int,
        threads: int = 0,
        precision: Precision = "int4",
        clients: dict[str, tuple[str, int]] | None = None,
        own_cores: bool = False,
    ) -> None:
        as_a_service()
        self._places = places(gateways, hosts) if own_cores else {}
        nodes = tuple(dict.fromkeys((*gateways, *hosts)))
        manifest: Manifest = read_manifest(shards)
        self.card = manifest.model
        self.plan = plan(self.card, nodes, gateways, hosts, copies)
        self._gateway = gateways[0]
        self._arrived = threading.Condition()
        self.tokens: dict[int, list[tuple[int, float]]] = {}
        self.refused: list[str] = []
        self._awaited: set[tuple[int, int]] = set()
        self._crew = Crew()
        self._listener = Listener(self._crew, "127.0.0.1", 0, lambda hello: "", self._take, lambda peer, reason: None)
        self._crew.start("client", self._listener.work)
        self._shards, self._threads = str(shards), threads
        self.processes: dict[str, Any] = {}
        self._pipes: dict[str, Connection] = {}
        for name in nodes:
            self._start(name, 0)
        self.addresses: dict[str, tuple[str, int]] = {n: ("127.0.0.1", pipe.recv()) for n, pipe in self._pipes.items()}
        known = {**self.addresses, CLIENT: self._listener.address, **(clients or {})}
        peers = tuple(Peer(name, f"{host}:{port}") for name, (host, port) in known.items())
        schedule = no_orbit(nodes)
        self._orders: dict[str, bytes] = {}
        for name, pipe in self._pipes.items():
            held = tuple(
                ExpertHolding(layer, e, precision)
                for layer, entry in enumerate(self.plan.layers)
                for e, shares in enumerate(entry.hosts)
                if nodes.index(name) in {s.node for s in shares}
            )
            order = Prepare(
                run=RUN, peers=peers, manifest_sha256=manifest_hash(manifest),
                trunk_layers=tuple(range(self.card.layers)) if name in gateways else (), experts=held,
                schedule=schedule, schedule_sha256=hashlib.sha256(schedule).hexdigest(), satellites={},
                delay_scale=1.0, hidden_codec="fp32", expert_timeout_s=5.0, plan=self.plan,
            )  # fmt: skip
            self._orders[name] = msgspec.json.encode(order)
            pipe.send_bytes(self._orders[name])
        for name in nodes:
            self._await(name)
        hello = encode_frame(Hello(CLIENT, RUN, "client"))
        self._link = OutgoingLink(
            self._gateway, self.addresses[self._gateway], hello, lambda: UNSHAPED, lambda name, reason: None
        )

    def _start(self, name: str, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        near, far = context.Pipe()
        process = context.Process(
            target=_serve, args=(name, self._shards, self._threads, self._places.get(name), far, port), daemon=True
        )
        process.start()
        self.processes[name], self._pipes[name] = process, near

    def _await(self, name: str) -> None:
        if not self._pipes[name].poll(PREPARE_S):
            raise SystemExit(f"error: node {name} did not get ready")
        self._pipes[name].recv()

    def revive(self, name: str) -> None:
        """A killed node starts again at its old address with its old order."""
        self._start(name, self.addresses[name][1])
        self._pipes[name].recv()
        self._pipes[name].send_bytes(self._orders[name])
        self._await(name)

    def _take(self, peer: str, frame: Frame, received_s: float) -> None:
        with self._arrived:
            if isinstance(frame, Token):
                got = self.tokens.setdefault(frame.request, [])
                got.append((frame.token, received_s))
                if (frame.request, len(got)) not in self._awaited:
                    return  # nobody is to be woken, for whom there is no core
            elif isinstance(frame, Refusal):
                self.refused.append(frame.reason)
            self._arrived.notify_all()

    def begin(self, request: int, prompt: list[int], count: int) -> None:
        """Start a generation; its tokens arrive in `tokens`."""
        self._link.send(
            encode_frame(
                Step(request, 1, 0, count, Route((self._gateway,), CLIENT), len(prompt), np.array(prompt, np.int32))
            )
        )

    def wait(self, request: int, count: int, timeout_s: float = 120.0) -> list[float]:
        """Arrival times in seconds of `count` tokens of a request."""
        with self._arrived:
            self._awaited.add((request, count))
            done = self._arrived.wait_for(lambda: len(self.tokens.get(request, ())) >= count or self.refused, timeout_s)
            if self.refused or not done:
                raise SystemExit(
                    f"error: {len(self.tokens.get(request, ()))} of {count} tokens came: {self.refused[:1]}"
                )
            return [s for _, s in self.tokens[request][:count]]

    def forget(self, request: int) -> None:
        self._link.send(encode_frame(Cancel(request, 1)))

    def take_steps(self, node: str) -> tuple[list[StepTime], int, int, float]:
        """Decoded steps since the last call, batches, steps in them, and the process's CPU seconds so far."""
        self._pipes[node].send("steps")
        found: tuple[list[StepTime], int, int, float] = self._pipes[node].recv()
        return found

    def unreachable(self, node: str) -> list[str]:
        """Peers this node holds for lost now."""
        self._pipes[node].send("unreachable")
        found: list[str] = self._pipes[node].recv()
        return found

    def kill(self, node: str) -> None:
        """SIGKILL."""
        self.processes[node].kill()

    def close(self) -> None:
        for name, pipe in self._pipes.items():
            if self.processes[name].is_alive():
                pipe.send("stop")
        for process in self.processes.values():
            process.join(10.0)
            if process.is_alive():
                process.kill()
        self._link.close()
        self._listener.close()
        self._crew.dismiss()
