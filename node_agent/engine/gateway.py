"""The gateway: trunk, gate and dispatch of one trunk slice, step by step, for any number of requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, Full, Queue

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.frames import Cancel, Handover, Refusal, Scores, Step, Token
from hil_config.wire.messages import LayerEvidence, TokenEvidence
from hil_config.wire.plan import GatewaySlice
from models.serving.gate import row_fraction, select
from node_agent.engine.caller import ExpertCaller
from node_agent.engine.kv_cache import CacheTable, RequestCache
from node_agent.engine.plans import Pinned, PlanBook
from node_agent.engine.trunk import Trunk

F32 = NDArray[np.float32]
QUEUE = 256
REQUESTS = 256


@dataclass
class _Work:
    """One step of one request through this slice."""

    frame: Step | Handover
    stage: int
    slice: GatewaySlice
    pinned: Pinned
    begun_s: float
    degraded: set[str] = field(default_factory=set)
    kept: list[float] = field(default_factory=list)
    evidence: list[LayerEvidence] = field(default_factory=list)


class Gateway:
    """Serves Step and Handover frames.

    Args:
        record: takes the evidence of each step.
        in_service: the reason why new work is refused now, or "".
    """

    def __init__(
        self,
        node: str,
        trunk: Trunk,
        caller: ExpertCaller,
        plans: PlanBook,
        record: Callable[[TokenEvidence], None],
        out_of_service: Callable[[], str],
    ) -> None:
        self._node = node
        self._trunk = trunk
        self._model = trunk.model
        self._caller = caller
        self._peers = caller.peers
        self._plans = plans
        self._record = record
        self._out_of_service = out_of_service
        self._caches = CacheTable(trunk.layers, self._model.kv_heads, self._model.head_dim, REQUESTS)
        self._queue: Queue[Step | Handover] = Queue(QUEUE)
        self.tokens = 0

    def accept(self, frame: Step | Handover) -> None:
        """Queue a step (called by reader threads); a full queue refuses by name."""
        try:
            self._queue.put_nowait(frame)
        except Full:
            self._refuse(frame, f"{self._node}: {QUEUE} steps are waiting already")

    def cancel(self, frame: Cancel) -> None:
        self._caches.drop(frame.request, frame.attempt)

    def work(self, stopping: Callable[[], bool]) -> None:
        """A gateway thread: one step at a time until told to stop."""
        while not stopping():
            try:
                frame = self._queue.get(timeout=0.2)
            except Empty:
                continue
            self._serve(frame)

    def _refuse(self, frame: Step | Handover, reason: str) -> None:
        self._peers.send(frame.route.client, Refusal(0, frame.request, frame.attempt, reason))

    def _serve(self, frame: Step | Handover) -> None:
        stage = frame.stage if isinstance(frame, Handover) else 0
        pinned = self._plans.pin(frame.plan_version if isinstance(frame, Handover) else -1)
        slices = pinned.plan.gateways
        if stage >= len(slices) or len(frame.route.gateways) != len(slices):
            self._refuse(frame, f"{self._node}: stage {stage} of {len(frame.route.gateways)}, plan has {len(slices)}")
            return
        work = _Work(frame, stage, slices[stage], pinned, time.perf_counter())
        reason = self._unfit(work)
        if reason:
            self._refuse(frame, reason)
            return
        cache = self._caches.get(frame.request)
        with cache.lock:
            if frame.attempt > cache.attempt and frame.start == 0:
                cache.restart(frame.attempt)
            if frame.attempt < cache.attempt:
                return  # the client has begun this request again: an old step is of no use to anybody
            if frame.start != cache.length or frame.attempt != cache.attempt:
                self._refuse(frame, f"{self._node}: has {cache.length} positions, the step starts at {frame.start}")
                return
            hidden = self._layers(work, cache)
            cache.advance(frame.rows)
        self._pass_on(work, hidden)

    def _unfit(self, work: _Work) -> str:
        missing = set(range(work.slice.first, work.slice.last + 1)) - set(self._trunk.layers)
        if missing:
            return f"{self._node}: does not hold trunk layers {sorted(missing)}"
        if work.frame.start + work.frame.rows > self._model.context:
            return f"{self._node}: position {work.frame.start + work.frame.rows} is beyond the model's context"
        tokens = work.frame.tokens  # empty in a handover that is not scored
        if len(tokens) and not (tokens.min() >= 0 and tokens.max() < self._model.vocabulary):
            return f"{self._node}: a token is outside the vocabulary of {self._model.vocabulary}"
        if work.frame.score and work.frame.rows < 2:
            return f"{self._node}: a single token has nothing before it to be scored after"
        return self._out_of_service()

    def _layers(self, work: _Work, cache: RequestCache) -> F32:
        frame = work.frame
        if isinstance(frame, Step):
            hidden = self._trunk.embed(frame.tokens)
        else:
            hidden = frame.hidden
            work.degraded.update(frame.degraded)
        for layer in range(work.slice.first, work.slice.last + 1):
            hidden = self._layer(work, layer, hidden, cache)
        return hidden

    def _layer(self, work: _Work, layer: int, hidden: F32, cache: RequestCache) -> F32:
        frame, plan = work.frame, work.pinned.plan
        step = self._trunk.step(layer, hidden, frame.start, cache)
        begin_s = time.perf_counter()
        alive = np.array([self._peers.reachable(name) for name in plan.nodes])
        gate = self._plans.gate(work.pinned, layer, alive)
        fraction = row_fraction(frame.request, frame.start, frame.rows, layer)
        picks = select(gate, step.scores, self._model.routing, fraction)
        gate_us = (time.perf_counter() - begin_s) * 1e6
        outcome, timing = self._caller.run(frame.request, layer, step.expert_input, picks, plan, alive)
        if picks.rerouted or outcome.rerouted:
            work.degraded.add("rerouted")
        if outcome.lost:
            work.degraded.add("lost")
        work.kept.append(float(picks.kept.mean()))
        work.evidence.append(
            LayerEvidence(
                layer, step.scores.tobytes(), picks.experts.tobytes(), picks.hosts.tobytes(),
                alive.astype(np.uint8).tobytes(), picks.rerouted + outcome.rerouted, outcome.lost,
                step.runtime_us, timing.serialise_us, timing.link_us, timing.queue_us, timing.expert_us,
                timing.combine_us + gate_us,
            )
        )  # fmt: skip
        return step.residual + outcome.total

    def _pass_on(self, work: _Work, hidden: F32) -> None:
        frame, route = work.frame, work.frame.route
        degraded = tuple(sorted(work.degraded))
        token, head_us = -1, 0.0
        if work.stage + 1 < len(route.gateways):
            handover = Handover(
                frame.request, frame.attempt, frame.start, frame.remaining, route, work.stage + 1,
                work.pinned.plan.version, degraded, frame.rows, hidden.shape[1], hidden, frame.score, frame.adapter,
                frame.tokens if frame.score else np.zeros(0, np.int32),
            )  # fmt: skip
            self._forward(route.gateways[work.stage + 1], handover)
        elif frame.score:
            logprobs, head_us = self._trunk.score(hidden, frame.tokens)
            scores = Scores(frame.request, frame.attempt, frame.start, degraded, len(logprobs), logprobs)
            self._peers.send(route.client, scores)
        else:
            choice = self._trunk.choose(hidden)
            token, head_us = choice.token, choice.runtime_us
            position = frame.start + frame.rows
            self._peers.send(
                route.client,
                Token(frame.request, frame.attempt, position, token, choice.logprob, choice.margin, degraded),
            )
            if frame.remaining > 1 and token != self._model.end_of_text and position < self._model.context:
                again = Step(
                    frame.request, frame.attempt, position, frame.remaining - 1, route, 1,
                    np.array([token], np.int32), adapter=frame.adapter,
                )  # fmt: skip
                self._forward(route.gateways[0], again)
            self.tokens += 1
        self._record(
            TokenEvidence(
                frame.request, frame.attempt, frame.start, frame.rows, work.pinned.plan.version,
                work.pinned.expired, time.monotonic_ns(), (time.perf_counter() - work.begun_s) * 1e6, head_us,
                token, float(np.mean(work.kept)), degraded, tuple(work.evidence),
            )
        )  # fmt: skip

    def _forward(self, gateway: str, frame: Step | Handover) -> None:
        if gateway == self._node:
            self.accept(frame)
        elif not self._peers.send(gateway, frame):
            self._refuse(frame, f"{self._node}: no link to gateway {gateway}")
