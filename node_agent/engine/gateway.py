"""The gateway: trunk, gate and dispatch of one trunk slice for any number of requests at once.

Steps that wait for the same layer go through it together: one trunk step, one gate, one call a host. While a batch
waits for its hosts, others are computed, as many as keep the hosts busy (see `models.serving.window`). Everything here
runs in turns (see `turns`), so nothing is locked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.frames import Cancel, ExpertReply, Handover, Refusal, Step
from hil_config.wire.hidden_codec import finite
from hil_config.wire.messages import LayerEvidence, TokenEvidence
from models.serving.batching import take_batch
from models.serving.dispatch import Outcome
from models.serving.gate import select, select_row
from models.serving.layer_gate import Picks, RowPicks, one_fraction, row_fraction
from models.serving.pick_table import table_of
from models.serving.window import Window
from node_agent.engine.audit import Auditor, Opinion
from node_agent.engine.caller import IDS_PER_LAYER, ExpertCaller, LayerCall, LayerTiming
from node_agent.engine.lines import Line, LineTable, Work, stage_of
from node_agent.engine.outlet import Outlet
from node_agent.engine.plans import CompiledLayer, PlanBook
from node_agent.engine.trunk import Rows, Trunk, TrunkStep
from node_agent.engine.turns import Turns

F32 = NDArray[np.float32]
STEPS = 256
"""Steps in a gateway at once, waiting or under way; one more request is refused by name. What was begun goes on."""
REQUESTS = 256
_by_request = attrgetter("frame.request")
"""The same requests come in the same order, so that their pasts stay where they are (`kv_cache`)."""


@dataclass
class _Batch:
    """Rows of several steps whose experts are being called."""

    works: list[Work]
    call: LayerCall
    step: TrunkStep
    picks: Picks | RowPicks
    alive: bytes
    """A byte for each node of the plan: 1 where it may be asked."""
    gate_us: float


@dataclass
class _Audit:
    """An answer that others are computing again."""

    call: LayerCall
    opinion: Opinion


class Gateway:
    """Serves Step and Handover frames.

    Args:
        record: takes the evidence of each step.
        out_of_service: the reason why new work is refused now, or "".
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
        self._plans = plans
        self._out_of_service = out_of_service
        self._outlet = Outlet(node, trunk, caller.peers, record, self.accept)
        self._lines = LineTable(self._model.cache_shape, REQUESTS, self._model.layers)
        self._ready: dict[tuple[int, int, bool, str], list[Work]] = {}
        self._calls: dict[int, _Batch | _Audit] = {}
        self.auditor = Auditor(caller, self._begin_audit)
        self._later: deque[Callable[[], None]] = deque()
        self._window = Window(self._trip_s)
        self._turns = Turns(self._may_begin, self._run_batch, self._watch)
        self._steps = self.late = self.batches = self.batched_steps = 0

    @property
    def tokens(self) -> int:
        return self._outlet.tokens

    @property
    def steps(self) -> int:
        """Steps here now, waiting or under way."""
        return self._steps

    def accept(self, frame: Step | Handover) -> None:
        """Take a step (called by reader threads); refused by name when there are too many."""
        if self._turns.waiting > 4 * STEPS:
            self._outlet.refuse(frame, f"{self._node}: {STEPS} steps are waiting already")
            return
        self._turns.post(partial(self._admit, frame))

    def cancel(self, frame: Cancel) -> None:
        self._turns.post(partial(self._cancel, frame))

    def answered(self, peer: str, frame: ExpertReply | Refusal, received_s: float) -> None:
        """A host's reply or refusal came (called by reader threads)."""
        self._turns.post(partial(self._answered, peer, frame, received_s))

    def lost(self, peer: str) -> None:
        """A peer is gone: every layer under way hears of it."""
        self._turns.post(partial(self._lost, peer))

    def work(self, stopping: Callable[[], bool]) -> None:
        """The gateway's own thread: deadlines, and what reader threads left to do."""
        self._turns.serve(stopping)

    def _admit(self, frame: Step | Handover) -> None:
        if self._steps >= STEPS and frame.start == 0:
            self._outlet.refuse(frame, f"{self._node}: {STEPS} steps are waiting already")
            return
        line = self._lines.get(frame.request, stage_of(frame))
        if line is None:
            self._outlet.refuse(frame, f"{self._node}: {REQUESTS} requests are at work already")
            return
        if frame.attempt < line.cache.attempt:
            return  # the client has begun this request again: an old step is of no use to anybody
        if frame.attempt > line.cache.attempt and frame.start == 0:
            self._steps -= line.forget()
            line.cache.restart(frame.attempt)
        if line.rows >= self._model.context:
            self._outlet.refuse(frame, f"{self._node}: {line.rows} rows of this request are waiting already")
            return
        line.waiting.append(frame)
        self._steps += 1
        self._begin_next(line)

    def _cancel(self, frame: Cancel) -> None:
        self._steps -= self._lines.drop(frame.request, frame.attempt)

    def _begin_next(self, line: Line) -> None:
        """Begin the line's next step, if none is under way; a refused one takes those behind it along."""
        if line.active is not None or not line.waiting:
            return
        frame, more = line.take()
        self._steps += more
        work = self._outlet.fit(frame, line, self._plans, self._out_of_service)
        if work is None:
            self._steps -= 1 + line.forget()
            return
        line.active = work
        self._add(work)

    def _add(self, work: Work) -> None:
        plan = work.pinned
        key = work.layer, plan.plan.version, plan.expired, work.frame.adapter
        self._ready.setdefault(key, []).append(work)

    def _may_begin(self) -> bool:
        return bool(self._ready) and (self._window.wide_open or self._window.open(time.monotonic()))

    def _trip_s(self) -> float:
        """The longest scheduled round trip to a host that a batch under way waits for."""
        asked = {host for batch in self._calls.values() for host in batch.call.asked}
        return max((self._caller.peers.round_trip_s(host) for host in asked), default=0.0)

    def _run_batch(self) -> None:
        """One batch through trunk and gate, its expert calls sent; then what nobody waits for."""
        call = self._begin_batch()
        self._catch_up()
        if call is not None:
            self._settle(call.id)

    def _begin_batch(self) -> LayerCall | None:
        works = take_batch(self._ready, time.monotonic())
        if not works:
            return None
        if len(works) > 1:
            works.sort(key=_by_request)
        layer, pinned, adapter = works[0].layer, works[0].pinned, works[0].frame.adapter
        if not self._trunk.deltas.holds(adapter):  # forgotten since these steps began
            self._give_up(works, f"{self._node}: delta {adapter!r} is not here any more")
            return None
        step = works[0].trunk.step(layer, [Rows(w.hidden, w.frame.start, w.line.cache) for w in works])
        if not finite(step.expert_input):
            self._sift(works, step.expert_input)
            return None
        if adapter:
            scores = self._trunk.deltas.route(adapter, layer, step.expert_input, step.scores)
            step = step._replace(scores=scores)
        begin_s = time.perf_counter()
        alive = self._caller.alive(pinned.plan, layer)
        compiled = self._plans.layer(pinned, layer, alive)
        picks = self._select(compiled, step, works)
        gate_us = (time.perf_counter() - begin_s) * 1e6
        call = self._caller.call(
            layer, step.expert_input, table_of(picks), pinned.plan, compiled.holders,
            works[0].frame.request, adapter, compiled.manner,
        )  # fmt: skip
        self._calls[call.id] = _Batch(works, call, step, picks, alive, gate_us)
        self._window.begun(call.id, time.monotonic())
        self._later.append(step.keep)
        self.batches += 1
        self.batched_steps += len(works)
        return call

    def _select(self, compiled: CompiledLayer, step: TrunkStep, works: list[Work]) -> Picks | RowPicks:
        layer, routing, mixing, sending = works[0].layer, self._model.routing, step.mixing, compiled.manner.sending
        drops = sending is not None and sending.drop
        if len(step.scores) == 1 and not drops:  # a decoded token
            fraction = one_fraction(works[0].frame.request, works[0].frame.start, layer)
            return select_row(compiled.gate, step.scores[0], routing, fraction, None if mixing is None else mixing[0])
        fractions = [row_fraction(w.frame.request, w.frame.start, w.rows, layer) for w in works]
        picks = select(compiled.gate, step.scores, routing, np.concatenate(fractions), mixing)
        if sending is None or not drops:
            return picks
        own = works[0].pinned.plan.nodes.index(self._node)
        return sending.keep(picks, own, layer, step.expert_input.shape[1])

    def _sift(self, works: list[Work], rows: F32) -> None:
        """Whoever has a value that is not finite before its experts is refused; the others wait once more."""
        at = 0
        for work in works:
            if finite(rows[at : at + work.rows]):
                self._add(work)
            else:
                self._give_up([work], f"{self._node}: layer {work.layer} has a value that is not finite")
            at += work.rows

    def _give_up(self, works: list[Work], reason: str) -> None:
        for work in works:
            self._outlet.refuse(work.frame, reason)
            self._steps -= work.line.forget()

    def _answered(self, peer: str, frame: ExpertReply | Refusal, received_s: float) -> None:
        batch = self._calls.get(frame.call // IDS_PER_LAYER)
        if batch is None:
            self.late += 1
            return
        batch.call.answered(peer, frame, received_s)
        self._settle(batch.call.id)

    def _lost(self, peer: str) -> None:
        for batch in list(self._calls.values()):
            batch.call.lost(peer)
            self._settle(batch.call.id)

    def _watch(self) -> bool:
        now_s = time.monotonic()
        for batch in list(self._calls.values()):
            if batch.call.deadline_s <= now_s:
                batch.call.advance(now_s)
                self._settle(batch.call.id)
        return bool(self._calls) or bool(self._ready)

    def _settle(self, call_id: int) -> None:
        """If the layer is whole, whoever waits for it goes on."""
        batch = self._calls[call_id]
        if not batch.call.finished:
            return
        del self._calls[call_id]
        outcome, timing = batch.call.result()
        if isinstance(batch, _Audit):
            batch.call.learn()
            self.auditor.finished(batch.opinion, outcome)
            return
        self._window.ended(call_id, (batch.step.runtime_us + timing.expert_us) / 1e6)
        self._distribute(batch, outcome, timing)
        self._later.append(partial(self._learn, batch.call))
        if not self._may_begin():
            self._catch_up()

    def _learn(self, call: LayerCall) -> None:
        call.learn()
        self.auditor.consider(call)

    def _catch_up(self) -> None:
        """What nobody waits for is done when the next calls are on their way."""
        while self._later:
            self._later.popleft()()

    def _begin_audit(self, call: LayerCall, opinion: Opinion) -> None:
        self._calls[call.id] = _Audit(call, opinion)
        self._settle(call.id)

    def _distribute(self, batch: _Batch, outcome: Outcome, timing: LayerTiming) -> None:
        """Each step's rows go to its next layer, or out of the slice."""
        hidden = batch.step.residual + outcome.total
        leaving: list[Work] = []
        at = 0
        for work in batch.works:
            rows = slice(at, at + work.rows)
            at += work.rows
            if work.stale:
                continue
            work.hidden = hidden[rows]
            if work.layer < work.slice.last:  # the next layer sees whether it is finite
                self._later.append(partial(self._note, work, batch, rows, outcome, timing))
                work.layer += 1
                work.ready_s = time.monotonic()
                self._add(work)
            elif finite(work.hidden):
                self._note(work, batch, rows, outcome, timing)
                leaving.append(work)
            else:
                self._give_up([work], f"{self._node}: layer {work.layer} gave a value that is not finite")
        if leaving:
            self._leave(leaving)

    def _leave(self, works: list[Work]) -> None:
        self._outlet.pass_on(works)
        for work in works:
            work.line.cache.advance(work.rows)
            work.line.active = None
            self._steps -= 1
            self._begin_next(work.line)

    def _note(self, work: Work, batch: _Batch, rows: slice, outcome: Outcome, timing: LayerTiming) -> None:
        """Evidence of one layer of one step. Times are those of the calls it shared with its batch."""
        step, noted = batch.step, batch.picks.noted(rows)
        rerouted, lost, kept = noted.rerouted, 0, noted.kept
        if not outcome.as_picked:
            rerouted, lost = rerouted + sum(outcome.rerouted[rows].tolist()), sum(outcome.lost[rows].tolist())
            kept = batch.picks.mass(rows, outcome.served)
        if rerouted:
            work.degraded.add("rerouted")
        if lost:
            work.degraded.add("lost")
        work.kept.append(kept)
        work.evidence.append(
            LayerEvidence(
                step.layer, step.scores[rows].tobytes(), noted.experts, noted.hosts, batch.alive, rerouted, lost,
                step.runtime_us, timing.serialise_us, timing.link_us,
                timing.queue_us, timing.expert_us, timing.combine_us + batch.gate_us,
                b"" if step.mixing is None else step.mixing[rows].tobytes(), tuple(batch.call.sent),
            )
        )  # fmt: skip
