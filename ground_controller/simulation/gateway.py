"""The gateway of a model node: batches, the real gate over recorded scores, and evidence like a board's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial

from ground_controller.simulation.choosing import Ahead, Compiled, Part, compile_for, joined
from ground_controller.simulation.frame_size import handover_bytes, step_bytes
from ground_controller.simulation.layer_call import CallTiming, SimLayerCall, Terms
from ground_controller.simulation.node import ModelNode
from ground_controller.simulation.step import SimLine, SimStep, SimToken, SimWork, chunks
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.manifest import ModelCard
from hil_config.wire.messages import LayerEvidence, Sent, TokenEvidence, WorkSummary
from hil_config.wire.plan import SelectionPlan
from models.serving.batching import take_batch
from models.serving.dispatch import Outcome
from models.serving.transmission import Sending, compile_sending
from models.serving.window import Window

KEPT_PLANS = 32
_NO_CALL = CallTiming()


class SimGateway:
    """Args:

    hosts: nodes that may hold experts; only they are looked at for being reachable.
    token: takes a token for the client. refuse: takes (request, attempt, reason) for the client.
    forward: hands a step to another gateway, in a codec if it is another than the link's.
    estimates: windows stand for whole ticks, so count what is in them.
    """

    def __init__(
        self,
        node: ModelNode,
        terms: Terms,
        card: ModelCard,
        hosts: tuple[int, ...],
        token: Callable[[str, SimToken], None],
        refuse: Callable[[int, int, str], None],
        forward: Callable[[str, SimStep, Codec | None], None],
        client: str,
        estimates: bool,
    ) -> None:
        self.node = node
        self._t = terms
        self._card = card
        self._hosts = hosts
        self._token = token
        self._refuse = refuse
        self._forward = forward
        self._client = client
        self._estimates = estimates
        self._plans: dict[int, SelectionPlan] = {}
        self._rules: dict[int, Sending | None] = {}
        self._newest = -1
        self._gates: dict[tuple[int, int, bytes], Compiled] = {}
        self._lines: dict[int, SimLine] = {}
        self._ready: dict[tuple[int, int], list[SimWork]] = {}
        self._busy = self._looking = False
        self._window = Window(self._trip_s)
        self._calls: set[SimLayerCall] = set()
        self._ahead = Ahead(card.routing, card.hidden)
        self._live = (b"", -math.inf)
        self._tokens = 0
        self._rows = 0
        self._expert_rows: Counter[int] = Counter()

    def accept_plan(self, plan: SelectionPlan) -> None:
        self._plans[plan.version] = plan
        self._rules[plan.version] = compile_sending(plan.transmission)
        self._newest = plan.version
        self._live = (b"", -math.inf)
        if len(self._plans) > KEPT_PLANS:
            oldest = min(self._plans)
            del self._plans[oldest], self._rules[oldest]
        self._gates = {key: gate for key, gate in self._gates.items() if key[0] in self._plans}

    def accept(self, step: SimStep) -> None:
        """A step arrived."""
        if not self.node.alive:
            return
        line = self._lines.setdefault(step.request, SimLine())
        if step.attempt < line.attempt:
            return
        if step.attempt > line.attempt and step.start == 0:
            line.restart(step.attempt)
        line.waiting.extend(chunks(step))
        self._begin_next(line)

    def cancel(self, request: int, attempt: int) -> None:
        line = self._lines.get(request)
        if line is not None and line.attempt <= attempt:
            line.restart(attempt)
            del self._lines[request]
            self._ahead.forget(request)

    def summarise(self, stride: int) -> None:
        """What the last window stands for, beyond itself."""
        more = stride - 1
        if more and self._rows and self.node.alive:
            rows = tuple((host, count * more) for host, count in sorted(self._expert_rows.items()))
            summary = WorkSummary(self.node.host_ns(), stride, self._tokens * more, self._rows * more, rows)
            self.node.record("work", summary)
        self._tokens = self._rows = 0
        self._expert_rows.clear()

    def lost(self, node: str) -> None:
        """A peer is gone."""
        self._live = (b"", -math.inf)
        for call in list(self._calls):
            call.lost(node)

    def _begin_next(self, line: SimLine) -> None:
        if line.active is not None or not line.waiting:
            return
        step = line.waiting.popleft()
        plan = self._plans.get(step.plan_version) or self._plans[self._newest]
        reason = self.node.out_of_service()
        if not reason and (step.start != line.length or step.attempt != line.attempt):
            reason = f"{self.node.name}: has {line.length} positions, the step starts at {step.start}"
        if reason:
            line.restart(step.attempt)
            self._refuse(step.request, step.attempt, reason)
            return
        piece = plan.gateways[step.stage]
        now_s = self._t.agenda.now_s
        work = line.active = SimWork(step, line, piece, plan, piece.first, now_s, set(step.degraded), now_s)
        self._add(work)

    def _add(self, work: SimWork) -> None:
        work.ready_s = self._t.agenda.now_s
        self._ready.setdefault((work.layer, work.plan.version), []).append(work)
        self._wake()

    def _wake(self) -> None:
        if self._ready and not self._busy:
            self._busy = True
            # A moment later, so that what becomes ready at the same instant goes together.
            self._t.agenda.at(self._t.agenda.now_s, self._run_batch)

    def _run_batch(self) -> None:
        """The trunk step of the next batch, then its calls."""
        works: list[SimWork] = []
        now_s = self._t.agenda.now_s
        while self._ready and not works and self._window.open(now_s):
            works = take_batch(self._ready, now_s)
        self._busy = bool(works)
        if self._ready and not works and not self._looking:
            self._looking = True
            self._t.agenda.at(self._window.opens_s(now_s), self._look_again)
        if works and self.node.alive:
            trunk = self.node.work("trunk")
            rows = sum(work.step.rows for work in works)
            trunk_us = trunk.us(rows)
            self.node.compute(trunk_us, trunk.watts, partial(self._routed, works), trunk_us)

    def _look_again(self) -> None:
        self._looking = False
        self._wake()

    def _trip_s(self) -> float:
        asked = {host for call in self._calls for host in call.asked}
        return max((self._t.fabric.round_trip_s(self.node.name, host) for host in asked), default=0.0)

    def _routed(self, works: list[SimWork], queue_us: float, trunk_us: float) -> None:
        """Trunk done: the gate chooses; its own time and that of writing the calls passes."""
        layer, plan = works[0].layer, works[0].plan
        live = self._reachable(plan)
        compiled = self._compiled(plan, layer, live)
        parts = self._ahead.rows([work.step for work in works], layer, compiled)
        rows = sum(part.length for part in parts)
        choose = self.node.work("gate")
        gate_us = choose.us(rows)
        if all(part.chosen.idle for part in parts):  # nobody is asked

            def skipped(_queue_us: float, _took_us: float) -> None:
                self._distribute(works, parts, live, None, _NO_CALL, (trunk_us, 0.0, gate_us), ())
                self._run_batch()

            self.node.compute(gate_us, choose.watts, skipped)
            return

        def done(outcome: Outcome | None, timing: CallTiming) -> None:
            self._calls.discard(call)
            self._window.ended(call, (trunk_us + timing.expert_us) / 1e6)
            self._distribute(works, parts, live, outcome, timing, times, tuple(call.sent))
            self._wake()

        call = SimLayerCall(self._t, self.node, layer, joined(parts, rows), plan.nodes, compiled, done)
        times = (trunk_us, self.node.work("frame").us(rows) * call.remote, gate_us)

        def chosen(_queue_us: float, _took_us: float) -> None:
            self._calls.add(call)
            self._window.begun(call, self._t.agenda.now_s)
            call.begin()
            self._run_batch()

        self.node.compute(times[1] + times[2], choose.watts, chosen)

    def _compiled(self, plan: SelectionPlan, layer: int, live: bytes) -> Compiled:
        key = (plan.version, layer, live)
        found = self._gates.get(key)
        if found is None:
            own = plan.nodes.index(self.node.name)
            found = self._gates[key] = compile_for(plan, layer, live, own, self._rules[plan.version])
        return found

    def _reachable(self, plan: SelectionPlan) -> bytes:
        """A byte for every node of the plan: can it be asked now?"""
        at_s = self._t.fabric.scenario_s
        if at_s >= self._live[1]:
            names = tuple(plan.nodes[index] for index in self._hosts)
            found, until_s = self._t.fabric.reachable(self.node.name, names)
            live = bytearray(len(plan.nodes))
            for index, up in zip(self._hosts, found, strict=True):
                live[index] = up
            self._live = (bytes(live), until_s)
        return self._live[0]

    def _distribute(
        self,
        works: list[SimWork],
        parts: list[Part],
        live: bytes,
        outcome: Outcome | None,
        timing: CallTiming,
        times: tuple[float, float, float],
        sent: tuple[Sent, ...],
    ) -> None:
        """Every step of the batch notes the layer and goes on. `outcome`: None where all went as picked."""
        leaving: list[SimWork] = []
        end = 0
        for work, part in zip(works, parts, strict=True):
            chosen, at, count = part
            begin, end = end, end + count
            if work.stale:
                continue
            rerouted, lost, kept = sum(chosen.rerouted[at : at + count]), 0, chosen.mean_kept(at, count)
            if outcome is not None:
                rerouted += int(outcome.rerouted[begin:end].sum())
                lost = int(outcome.lost[begin:end].sum())
                kept = float((chosen.picks.kept[at : at + count] * outcome.served[begin:end]).mean())
            if rerouted:
                work.degraded.add("rerouted")
            if lost:
                work.degraded.add("lost")
            work.kept.append(kept)
            scores, mixing = work.step.trace.gate_bytes(work.layer, work.step.start, count)
            experts, hosts = chosen.evidence(at, count)
            work.evidence.append(
                LayerEvidence(
                    work.layer, scores, experts, hosts, live, rerouted, lost, times[0], times[1], timing.link_us,
                    timing.queue_us, timing.expert_us, times[2], mixing, sent,
                )
            )  # fmt: skip
            if self._estimates:
                self._rows += count
                self._expert_rows.update(host for host in part.hosts if host >= 0)
            if work.layer < work.slice.last:
                work.layer += 1
                self._add(work)
            else:
                leaving.append(work)
        if leaving:
            self._leave(leaving)

    def _leave(self, works: list[SimWork]) -> None:
        """Out of the slice: to the next gateway, or through the head to the client."""
        last = self._card.layers - 1
        final = [w for w in works if w.slice.last == last and w.step.remaining > 0]
        for work in works:
            if work not in final:
                self._pass_on(work, 0.0)
        if final:
            head = self.node.work("head")
            whole_us = head.us(len(final))

            def headed(_queue_us: float, head_us: float) -> None:
                for work in final:
                    if not work.stale:
                        self._pass_on(work, head_us)

            self.node.compute(whole_us, head.watts, headed, whole_us)

    def _pass_on(self, work: SimWork, head_us: float) -> None:
        s, token = work.step, -1
        degraded = tuple(sorted(work.degraded))
        if work.slice.last < self._card.layers - 1:
            onward = SimStep(
                s.request, s.attempt, s.start, s.rows, s.remaining, s.route, s.trace, s.stage + 1,
                work.plan.version, frozenset(work.degraded),
            )  # fmt: skip
            self._forward(self.node.name, onward, self._handover_codec(work))
        elif s.remaining > 0:
            position = s.start + s.rows
            token = s.trace.tokens[position - len(s.trace.prompt)]
            self._tokens += 1
            self._token(self.node.name, SimToken(s.request, s.attempt, position, degraded))
            more = position - len(s.trace.prompt) + 1 < len(s.trace.tokens)
            if s.remaining > 1 and more and token != self._card.end_of_text and position < self._card.context:
                self._forward(
                    self.node.name, SimStep(s.request, s.attempt, position, 1, s.remaining - 1, s.route, s.trace), None
                )
        self._tell(work, token, head_us, degraded)
        work.line.length += s.rows
        work.line.active = None
        self._begin_next(work.line)

    def _handover_codec(self, work: SimWork) -> Codec | None:
        """By the plan's rules, into the evidence; None where the link's own is used."""
        rules, nodes, target = self._rules.get(work.plan.version), work.plan.nodes, work.step.route[work.step.stage + 1]
        if rules is None or target == self.node.name or target not in nodes:
            return None
        pair = nodes.index(self.node.name), nodes.index(target)
        codec: Codec = rules.codec(*pair, -1, work.step.rows, self._t.width, 1.0)
        work.handover = codec
        return codec

    def _tell(self, work: SimWork, token: int, head_us: float, degraded: tuple[str, ...]) -> None:
        s, now_s = work.step, self._t.agenda.now_s
        self.node.record(
            "token",
            TokenEvidence(
                s.request, s.attempt, s.start, s.rows, work.plan.version, False, self.node.host_ns(),
                (now_s - work.begun_s) * 1e6, head_us, token, sum(work.kept) / len(work.kept), degraded,
                tuple(work.evidence), work.handover,
            ),
        )  # fmt: skip


def frame_bytes(terms: Terms, client: str, source: str, target: str, step: SimStep, codec: Codec | None) -> int:
    """Bytes of the frame that carries a step between gateways."""
    if step.stage == 0:
        return step_bytes(step.rows, step.route, client)
    return handover_bytes(step.rows, terms.width, step.route, client, codec or terms.codec(source, target))
