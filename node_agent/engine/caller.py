"""Runs one layer's dispatch over the peers: remote hosts overlap, our own experts run meanwhile."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.frames import ExpertCall, ExpertReply, Refusal
from hil_config.wire.plan import SelectionPlan
from models.serving.dispatch import Call, LayerDispatch, Outcome
from models.serving.gate import Picks
from node_agent.engine.experts import ExpertBank, NotHeld
from node_agent.link.peers import Peers

F32 = NDArray[np.float32]
_IDS_PER_LAYER = 1 << 12
_WINDOW = 64
_FLOOR_S = 0.05


class LayerTiming(NamedTuple):
    """Microseconds on the path of the host that answered last (see LayerEvidence)."""

    serialise_us: float
    link_us: float
    queue_us: float
    expert_us: float
    combine_us: float


class _Reply(NamedTuple):
    frame: ExpertReply | Refusal
    received_s: float


class _Lost(NamedTuple):
    peer: str


_Mailbox = SimpleQueue[_Reply | _Lost]


class _Latency:
    """p95 of a host's round trips beyond the scheduled delay, over the last `_WINDOW` calls."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_WINDOW)

    def add(self, seconds: float) -> None:
        self._seen.append(seconds)

    def patience_s(self, scheduled_s: float, most_s: float) -> float:
        if len(self._seen) < 8:
            return most_s / 4
        p95 = sorted(self._seen)[int(0.95 * (len(self._seen) - 1))]
        return min(most_s / 2, scheduled_s + max(_FLOOR_S, 3.0 * p95))


class ExpertCaller:
    """The gateway side of expert calls. One `run` per layer; any number at the same time."""

    def __init__(self, peers: Peers, bank: ExpertBank, timeout_s: float) -> None:
        self._peers = peers
        self._bank = bank
        self._timeout_s = timeout_s
        self._ids = itertools.count(_IDS_PER_LAYER, _IDS_PER_LAYER)
        self._lock = threading.Lock()
        self._mail: dict[int, _Mailbox] = {}
        self._latency: dict[str, _Latency] = {}
        self.late = 0

    def answered(self, frame: ExpertReply | Refusal, received_s: float) -> None:
        """A host's reply or refusal came (called by reader threads)."""
        mailbox = self._mail.get(frame.call // _IDS_PER_LAYER)
        if mailbox is None:
            self.late += 1
        else:
            mailbox.put(_Reply(frame, received_s))

    def lost(self, peer: str) -> None:
        """A peer is gone: every layer under way hears of it."""
        with self._lock:
            boxes = list(self._mail.values())
        for mailbox in boxes:
            mailbox.put(_Lost(peer))

    def run(
        self,
        request: int,
        layer: int,
        hidden: F32,
        picks: Picks,
        plan: SelectionPlan,
        alive: NDArray[np.bool_],
    ) -> tuple[Outcome, LayerTiming]:
        """The weighted expert sum of rows [T, H]; always ends within the expert timeout."""
        first = next(self._ids)
        mailbox: _Mailbox = SimpleQueue()
        with self._lock:
            self._mail[first // _IDS_PER_LAYER] = mailbox
        try:
            return _LayerRun(self, request, layer, hidden, picks, plan, alive, mailbox, first).run()
        finally:
            with self._lock:
                del self._mail[first // _IDS_PER_LAYER]

    def patience_s(self, host: str) -> float:
        latency = self._latency.setdefault(host, _Latency())
        return latency.patience_s(self._peers.round_trip_s(host), self._timeout_s)

    def learn(self, host: str, round_trip_s: float) -> None:
        beyond = max(0.0, round_trip_s - self._peers.round_trip_s(host))
        self._latency.setdefault(host, _Latency()).add(beyond)

    @property
    def peers(self) -> Peers:
        return self._peers

    @property
    def bank(self) -> ExpertBank:
        return self._bank

    @property
    def timeout_s(self) -> float:
        return self._timeout_s


class _LayerRun:
    """One layer of one step under way."""

    def __init__(
        self,
        caller: ExpertCaller,
        request: int,
        layer: int,
        hidden: F32,
        picks: Picks,
        plan: SelectionPlan,
        alive: NDArray[np.bool_],
        mailbox: _Mailbox,
        first_id: int,
    ) -> None:
        self._caller = caller
        self._request = request
        self._layer = layer
        self._hidden = hidden
        self._nodes = plan.nodes
        self._mailbox = mailbox
        holders = [[s.node for s in hosts if alive[s.node]] for hosts in plan.layers[layer].hosts]
        self._dispatch = LayerDispatch(
            picks, hidden.shape[1], holders, lambda host: caller.patience_s(plan.nodes[host]),
            caller.timeout_s, time.monotonic(), first_id,
        )  # fmt: skip
        self._sent: dict[int, tuple[str, float]] = {}
        self._serialise_s = 0.0
        self._last = LayerTiming(0.0, 0.0, 0.0, 0.0, 0.0)

    def run(self) -> tuple[Outcome, LayerTiming]:
        while True:
            self._issue()
            if self._dispatch.finished:
                break
            self._wait()
        start_s = time.perf_counter()
        outcome = self._dispatch.outcome()
        combine_us = (time.perf_counter() - start_s) * 1e6
        return outcome, self._last._replace(serialise_us=self._serialise_s * 1e6, combine_us=combine_us)

    def _issue(self) -> None:
        """Send every waiting call: remote ones first, so that they travel while ours are computed."""
        while calls := self._dispatch.take_calls():
            own = [call for call in calls if self._nodes[call.host] == self._caller.peers.node]
            for call in calls:
                if call not in own:
                    self._send(call)
            for call in own:
                self._compute(call)

    def _send(self, call: Call) -> None:
        start_s = time.perf_counter()
        host = self._nodes[call.host]
        rows, picks = call.experts.shape
        frame = ExpertCall(
            call.id, self._request, self._layer, rows, self._hidden.shape[1], picks,
            call.experts, call.weights, self._hidden[call.rows],
        )  # fmt: skip
        sent = self._caller.peers.send(host, frame)
        self._serialise_s += time.perf_counter() - start_s
        self._sent[call.id] = (host, time.monotonic())
        if not sent:
            self._dispatch.refused(call.id, time.monotonic())

    def _compute(self, call: Call) -> None:
        try:
            partial = self._caller.bank.partial_sum(self._layer, self._hidden[call.rows], call.experts, call.weights)
        except NotHeld:
            self._dispatch.refused(call.id, time.monotonic())
            return
        if self._dispatch.reply(call.id, partial.total):
            self._last = LayerTiming(0.0, 0.0, 0.0, partial.runtime_us, 0.0)

    def _wait(self) -> None:
        now_s = time.monotonic()
        try:
            mail = self._mailbox.get(timeout=max(0.0, self._dispatch.next_deadline_s() - now_s))
        except Empty:
            self._dispatch.advance(time.monotonic())
            return
        if isinstance(mail, _Lost):
            if mail.peer in self._nodes:
                self._dispatch.host_lost(self._nodes.index(mail.peer), time.monotonic())
        elif isinstance(mail.frame, Refusal):
            self._dispatch.refused(mail.frame.call, time.monotonic())
        elif self._dispatch.reply(mail.frame.call, mail.frame.hidden):
            host, sent_s = self._sent[mail.frame.call]
            trip_s = mail.received_s - sent_s
            self._caller.learn(host, trip_s)
            link_us = max(0.0, trip_s * 1e6 - mail.frame.queue_us - mail.frame.expert_us)
            self._last = LayerTiming(0.0, link_us, mail.frame.queue_us, mail.frame.expert_us, 0.0)
