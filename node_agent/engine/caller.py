"""Runs one layer's dispatch over the peers: remote hosts overlap, our own experts run meanwhile."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.frames import ExpertCall, ExpertReply, Refusal
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.manifest import ModelCard, Precision
from hil_config.wire.messages import Sent
from hil_config.wire.plan import SelectionPlan
from models.serving.dispatch import Ask, Call, LayerDispatch, Outcome
from models.serving.health import ceilings, reply_fault
from models.serving.pick_table import PickTable
from models.serving.transmission import Sending, mean_square_mass
from node_agent.engine.experts import ExpertBank, NotHeld
from node_agent.engine.hosts import HostBook
from node_agent.engine.plans import PLAIN, Manner
from node_agent.link.peers import Peers

F32 = NDArray[np.float32]
IDS_PER_LAYER = 1 << 12


class LayerTiming(NamedTuple):
    """Microseconds on the path of the host that answered last (see LayerEvidence)."""

    serialise_us: float
    link_us: float
    queue_us: float
    expert_us: float
    combine_us: float


class Answer(NamedTuple):
    """A host's counted answer, with what is needed to ask somebody else: `hidden` [n, H] in, `partial` [n, H] out."""

    call: Call
    hidden: F32
    partial: F32
    layer: int
    plan: SelectionPlan
    holders: list[list[int]]
    request: int
    adapter: str
    manner: Manner


class ExpertCaller:
    """The gateway side of expert calls: makes layer calls and keeps what they learn about hosts.

    `tell` takes (event name, host, reason).
    """

    def __init__(
        self, peers: Peers, bank: ExpertBank, card: ModelCard, timeout_s: float, tell: Callable[[str, str, str], None]
    ) -> None:
        self.peers = peers
        self.bank = bank
        self.timeout_s = timeout_s
        self.hosts = HostBook(peers.round_trip_s, timeout_s, tell)
        self.ceilings = [ceilings(card, layer) for layer in range(card.layers)]
        self.tell = tell
        self._ids = itertools.count(IDS_PER_LAYER, IDS_PER_LAYER)

    def alive(self, plan: SelectionPlan, layer: int) -> bytes:
        """A byte for each node of the plan, 1 for who may be asked: reachable, not quarantined, and not slow where
        somebody else holds the same."""
        names, now_s = plan.nodes, time.monotonic()
        alive = self.peers.reachable_of(names, now_s)
        never, shunned = self.hosts.barred(now_s)
        if not never and not shunned:
            return alive
        alive = bytes(up and name not in never for up, name in zip(alive, names, strict=True))
        without = bytes(up and name not in shunned for up, name in zip(alive, names, strict=True))
        for hosts in plan.layers[layer].hosts:
            if any(alive[s.node] for s in hosts) and not any(without[s.node] for s in hosts):
                return alive  # a slow host is better than another expert
        return without

    def call(
        self,
        layer: int,
        hidden: F32,
        picks: PickTable,
        plan: SelectionPlan,
        holders: list[list[int]],
        request: int,
        adapter: str = "",
        manner: Manner = PLAIN,
    ) -> LayerCall:
        """A layer call over rows [T, H], its first calls sent; it ends within the expert timeout."""
        call = LayerCall(self, layer, hidden, picks, plan, holders, next(self._ids), request, adapter, manner)
        call.issue()
        return call


class LayerCall:
    """One layer of one batch under way. Not thread-safe: whoever has the turn brings replies and time."""

    def __init__(
        self,
        caller: ExpertCaller,
        layer: int,
        hidden: F32,
        picks: PickTable,
        plan: SelectionPlan,
        holders: list[list[int]],
        first_id: int,
        request: int,
        adapter: str,
        manner: Manner,
    ) -> None:
        self.id = first_id // IDS_PER_LAYER
        self.layer = layer
        self._caller = caller
        self._request = request
        self._adapter = adapter
        self._hidden = hidden
        self._plan = plan
        self._nodes = plan.nodes
        self._manner = manner
        self._holders = holders
        self._dispatch = LayerDispatch(
            picks, hidden.shape[1], holders, lambda host: caller.hosts.patience_s(plan.nodes[host]),
            caller.timeout_s, time.monotonic(), first_id,
        )  # fmt: skip
        self._sent: dict[int, tuple[str, float]] = {}
        self._serialise_s = 0.0
        self._last = LayerTiming(0.0, 0.0, 0.0, 0.0, 0.0)
        self._answers: list[tuple[Ask, F32]] = []
        self._trips: list[tuple[str, float]] = []
        self._again = False
        self._encoded: dict[str, bytes] = {}
        self.sent: list[Sent] = []
        """Calls of the first round, where the plan has rules of transmission."""

    @property
    def finished(self) -> bool:
        return self._dispatch.finished

    @property
    def deadline_s(self) -> float:
        return self._dispatch.next_deadline_s()

    @property
    def asked(self) -> set[str]:
        """Whoever was asked."""
        return {host for host, _ in self._sent.values()}

    def result(self) -> tuple[Outcome, LayerTiming]:
        start_s = time.perf_counter()
        outcome = self._dispatch.outcome()
        combine_us = (time.perf_counter() - start_s) * 1e6
        _, link_us, queue_us, expert_us, _ = self._last
        return outcome, LayerTiming(self._serialise_s * 1e6, link_us, queue_us, expert_us, combine_us)

    @property
    def answers(self) -> int:
        """How many answers of other nodes were counted."""
        return len(self._answers)

    def answer(self, index: int) -> Answer:
        """One of them."""
        ask, partial = self._answers[index]
        call = ask.call()
        return Answer(
            call, self._hidden[call.rows], partial, self.layer, self._plan, self._holders, self._request, self._adapter,
            self._manner,
        )  # fmt: skip

    def issue(self) -> None:
        """Send every waiting call: remote ones first, so that they travel while ours are computed."""
        node = self._caller.peers.node
        while asks := self._dispatch.take_asks():
            own = []
            for ask in asks:
                if self._nodes[ask.host] == node:
                    own.append(ask)
                else:
                    self._send(ask)
            for ask in own:
                self._compute(ask)
            self._again = True

    def _send(self, ask: Ask) -> None:
        start_s = time.perf_counter()
        host, rows = self._nodes[ask.host], len(ask.rows)
        whole = rows == len(self._hidden)
        frame = ExpertCall(ask.id, self._request, self.layer, rows, self._hidden.shape[1], ask.picks)
        if rows == 1:
            (items,) = ask.rows.values()
            frame.row = tuple([item[2] for item in items]), tuple([item[3] for item in items])
        else:
            _, _, _, frame.experts, frame.weights = ask.call()
        if whole:
            frame.hidden, frame.encoded = self._hidden, self._encoded
        else:
            frame.hidden = self._hidden[list(ask.rows)]
        frame.adapter, frame.precisions = self._adapter, self._variants(ask)
        codec = None if self._manner.sending is None else self._choose_codecs(self._manner.sending, ask, frame)
        sent = self._caller.peers.send(host, frame, codec)
        now_s = time.monotonic()
        self._serialise_s += time.perf_counter() - start_s
        self._sent[ask.id] = (host, now_s)
        if not sent:
            self._dispatch.refused(ask.id, now_s)

    def _variants(self, ask: Ask) -> tuple[tuple[int, Precision], ...]:
        """The precisions the plan wants of the call's experts on its host."""
        wanted = self._manner.precision
        if not wanted:
            return ()
        named = sorted({item.expert for items in ask.rows.values() for item in items})
        asked = ((e, wanted.get((e, ask.host))) for e in named)
        return tuple((expert, precision) for expert, precision in asked if precision is not None)

    def _choose_codecs(self, rules: Sending, ask: Ask, frame: ExpertCall) -> Codec:
        """By the plan's rules; that of the reply into the frame."""
        own = self._nodes.index(self._caller.peers.node)
        size = frame.rows, frame.width, mean_square_mass(ask.call().weights if frame.row else frame.weights)
        codec = rules.codec(own, ask.host, self.layer, *size)
        frame.answer = rules.codec(ask.host, own, self.layer, *size)
        if not self._again:
            self.sent.append(Sent(ask.host, frame.rows, size[2], codec, frame.answer))
        return codec

    def _compute(self, ask: Ask) -> None:
        call = ask.call()
        try:
            partial = self._caller.bank.partial_sum(
                self.layer, self._hidden[call.rows], call.experts, call.weights, self._adapter, self._variants(ask)
            )
        except NotHeld:
            self._dispatch.refused(call.id, time.monotonic())
            return
        if self._dispatch.reply(call.id, partial.total):
            self._last = LayerTiming(0.0, 0.0, 0.0, partial.runtime_us, 0.0)

    def answered(self, peer: str, frame: ExpertReply | Refusal, received_s: float) -> None:
        """A reply or refusal of `peer`, of no account unless that is who was asked. What a reply must not be makes it a
        refusal, told and never counted."""
        now_s = time.monotonic()
        sent = self._sent.get(frame.call)
        ask = self._dispatch.ask(frame.call)
        if ask is None or sent is None or sent[0] != peer:
            return
        host, sent_s = sent
        if isinstance(frame, Refusal):
            self._dispatch.refused(frame.call, now_s)
        elif fault := reply_fault(ask, frame.hidden, self._hidden.shape[1], self._caller.ceilings[self.layer]):
            self._caller.hosts.quarantine(host, f"layer {self.layer}: {fault}")
            self._dispatch.refused(frame.call, now_s)
        elif self._dispatch.reply(frame.call, frame.hidden):
            trip_s = received_s - sent_s
            self._trips.append((host, trip_s))
            link_us = max(0.0, trip_s * 1e6 - frame.queue_us - frame.expert_us)
            self._last = LayerTiming(0.0, link_us, frame.queue_us, frame.expert_us, 0.0)
            self._answers.append((ask, frame.hidden))
        self.issue()

    def learn(self) -> None:
        """What the answers say of their hosts; once, when the layer is whole."""
        for host, trip_s in self._trips:
            self._caller.hosts.answered(host, trip_s)

    def lost(self, peer: str) -> None:
        """A peer is gone."""
        if peer in self._nodes:
            self._dispatch.host_lost(self._nodes.index(peer), time.monotonic())
            self.issue()

    def advance(self, now_s: float) -> None:
        """Time passed."""
        for host in self._dispatch.advance(now_s):
            self._caller.hosts.missed(self._nodes[host], now_s)
        self.issue()
