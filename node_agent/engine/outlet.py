"""A gateway's edges: is a step fit to begin, and where its rows go when they leave the slice."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from hil_config.wire.frame_types import NO_LINK
from hil_config.wire.frames import Handover, Refusal, Scores, Step, Token, most_rows
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.messages import TokenEvidence
from node_agent.engine.lines import Line, Work, stage_of
from node_agent.engine.plans import PlanBook
from node_agent.engine.trunk import Choice, Trunk, TrunkSessions
from node_agent.link.peers import Peers


class Outlet:
    """`loop` takes a step that comes back to this node."""

    def __init__(
        self,
        node: str,
        trunk: Trunk,
        peers: Peers,
        record: Callable[[TokenEvidence], None],
        loop: Callable[[Step | Handover], None],
    ) -> None:
        self._node = node
        self._trunk = trunk
        self._deltas = trunk.deltas
        self._model = trunk.model
        self._peers = peers
        self._record = record
        self._loop = loop
        self.tokens = 0

    def refuse(self, frame: Step | Handover, reason: str) -> None:
        self._peers.send(frame.route.client, Refusal(0, frame.request, frame.attempt, reason))

    def fit(
        self, frame: Step | Handover, line: Line, plans: PlanBook, out_of_service: Callable[[], str]
    ) -> Work | None:
        """The step, ready for the slice's first layer; None after it was refused by name."""
        stage = stage_of(frame)
        pinned = plans.pin(frame.plan_version if isinstance(frame, Handover) else -1)
        slices, cache = pinned.plan.gateways, line.cache
        if not 0 <= stage < len(slices) == len(frame.route.gateways):
            self.refuse(frame, f"{self._node}: stage {stage} of {len(frame.route.gateways)}, plan has {len(slices)}")
            return None
        piece = slices[stage]
        trunk = self._trunk.held
        reason = self._unfit(frame, piece.first, piece.last, trunk) or out_of_service()
        if not reason and self._node not in pinned.plan.nodes:
            reason = f"{self._node}: plan {pinned.plan.version} does not know this node"
        if not reason and (frame.start != cache.length or frame.attempt != cache.attempt):
            reason = f"{self._node}: has {cache.length} positions, the step starts at {frame.start}"
        most = most_rows(self._model.hidden)
        if not reason and frame.rows > most and len(pinned.plan.nodes) > 1:
            reason = f"{self._node}: {frame.rows} rows in one step, a frame holds {most} of this model's width"
        if not reason and not cache.covers(piece.first, piece.last):
            reason = f"{self._node}: has no past of layers {piece.first} to {piece.last}"
        if reason:
            self.refuse(frame, reason)
            return None
        hidden = trunk.embed(frame.tokens) if isinstance(frame, Step) else frame.hidden
        degraded = set(frame.degraded) if isinstance(frame, Handover) else set()
        return Work(
            frame, line, piece, pinned, trunk, hidden, piece.first, time.perf_counter(), time.monotonic(), degraded
        )  # fmt: skip

    def _unfit(self, frame: Step | Handover, first: int, last: int, trunk: TrunkSessions) -> str:
        missing = set(range(first, last + 1)) - trunk.layers.keys()
        if missing:
            return f"{self._node}: does not hold trunk layers {sorted(missing)}"
        if frame.start + frame.rows > self._model.context:
            return f"{self._node}: position {frame.start + frame.rows} is beyond the model's context"
        tokens: list[int] = frame.tokens.tolist()  # none in a handover that is not scored
        if tokens and not (min(tokens) >= 0 and max(tokens) < self._model.vocabulary):
            return f"{self._node}: a token is outside the vocabulary of {self._model.vocabulary}"
        if not self._deltas.holds(frame.adapter):
            return f"{self._node}: delta {frame.adapter!r} is not here"
        if frame.score and frame.rows < 2:
            return f"{self._node}: a single token has nothing before it to be scored after"
        if isinstance(frame, Handover) and frame.width != self._model.hidden:
            return f"{self._node}: hidden state of width {frame.width}, the model's is {self._model.hidden}"
        return ""

    def pass_on(self, works: list[Work]) -> None:
        """Rows that passed the slice: to the next gateway, or through the head to the client and back to the first."""
        last = self._model.layers - 1
        final = [w for w in works if w.slice.last == last and w.frame.remaining > 0 and not w.frame.score]
        choices, head_us = final[0].trunk.choose(np.concatenate([w.hidden[-1:] for w in final])) if final else ([], 0.0)
        chosen = dict(zip(map(id, final), choices, strict=True))
        for work in works:
            choice = chosen.get(id(work))
            if choice is not None:
                self._emit(work, choice)
                self._tell(work, choice.token, head_us)
            elif work.slice.last < last:
                self._hand_over(work)
                self._tell(work, -1, 0.0)
            else:
                self._tell(work, -1, self._score(work) if work.frame.score else 0.0)

    def _hand_over(self, work: Work) -> None:
        frame, route = work.frame, work.frame.route
        stage = frame.stage + 1 if isinstance(frame, Handover) else 1
        handover = Handover(
            frame.request, frame.attempt, frame.start, frame.remaining, route, stage, work.pinned.plan.version,
            tuple(sorted(work.degraded)), frame.rows, work.hidden.shape[1], work.hidden, frame.score, frame.adapter,
            frame.tokens if frame.score else np.zeros(0, np.int32),
        )  # fmt: skip
        rules, nodes, codec = work.pinned.sending, work.pinned.plan.nodes, None
        if rules is not None and route.gateways[stage] != self._node and route.gateways[stage] in nodes:
            pair = nodes.index(self._node), nodes.index(route.gateways[stage])
            codec = work.handover = rules.codec(*pair, -1, frame.rows, handover.width, 1.0)
        self._forward(route.gateways[stage], handover, codec)

    def _score(self, work: Work) -> float:
        frame = work.frame
        logprobs, head_us = work.trunk.score(work.hidden, frame.tokens)
        degraded = tuple(sorted(work.degraded))
        scores = Scores(frame.request, frame.attempt, frame.start, degraded, len(logprobs), logprobs)
        self._peers.send(frame.route.client, scores)
        return head_us

    def _emit(self, work: Work, choice: Choice) -> None:
        """The token to the client, and the next step to the first gateway unless the generation is over."""
        frame, route = work.frame, work.frame.route
        position = frame.start + frame.rows
        degraded = tuple(sorted(work.degraded))
        token = Token(
            frame.request, frame.attempt, position, choice.token, choice.logprob, choice.margin, degraded
        )  # fmt: skip
        self._peers.send(route.client, token)
        self.tokens += 1
        if frame.remaining > 1 and choice.token != self._model.end_of_text and position < self._model.context:
            again = Step(
                frame.request, frame.attempt, position, frame.remaining - 1, route, 1,
                np.array([choice.token], np.int32), adapter=frame.adapter,
            )  # fmt: skip
            self._forward(route.gateways[0], again)

    def _forward(self, gateway: str, frame: Step | Handover, codec: Codec | None = None) -> None:
        if gateway == self._node:
            self._loop(frame)
        elif not self._peers.send(gateway, frame, codec):
            self.refuse(frame, f"{self._node}: {NO_LINK} {gateway}")

    def _tell(self, work: Work, token: int, head_us: float) -> None:
        frame = work.frame
        total_us = (time.perf_counter() - work.begun_s) * 1e6
        self._record(
            TokenEvidence(
                frame.request, frame.attempt, frame.start, frame.rows, work.pinned.plan.version, work.pinned.expired,
                time.monotonic_ns(), total_us, head_us, token, sum(work.kept) / len(work.kept),
                tuple(sorted(work.degraded)), tuple(work.evidence), work.handover,
            )
        )  # fmt: skip
