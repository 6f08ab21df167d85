"""Spot re-execution: now and then a host's answer is computed again elsewhere and compared.

A poisoned partial sum of believable size passes every check of form. So each answer has a chance of `SHARE` to be
audited: its items go to other holders, apart from the token under way, which never waits for it. At 2 % a host
that always lies is caught with probability 1 - 0.98^n within n answers: 99 % within 228.

Where the two differ, a third opinion decides. Our own computation needs none. Where there is nobody else to ask,
both stay in suspicion, and a host in suspicion with two different others is the one they have in common.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.hidden_codec import Codec
from models.serving.dispatch import Outcome
from models.serving.layer_gate import Picks
from models.serving.pick_table import table_of
from node_agent.engine.caller import Answer, ExpertCaller, LayerCall
from node_agent.engine.plans import Manner

F32 = NDArray[np.float32]
SHARE = 0.02
TOLERANCE: dict[Codec, float] = {"fp32": 0.05, "fp16": 0.05, "int8": 0.1, "int4": 0.6}
"""Of a row's norm, by the coarsest codec on this node's links. Measured on the reference model's int8 experts, 1280
rows: grouped against single sessions differ by 0.001 at most, through fp16 by 0.014, int8 0.038, int4 0.29; the rest
is room for kernels of other processors. A lie smaller than this is not found."""
UNDER_WAY = 8
"""Audits at once; more are left out, so that a storm of them cannot hold up the tokens."""


class Opinion(NamedTuple):
    """An answer as first given; which of its `rows` are looked at; who was `asked` so far, in that order; and, in
    the second round, what the first witness said (`second` [n, H] in the answer's rows)."""

    answer: Answer
    rows: NDArray[np.intp]
    asked: tuple[int, ...]
    second: F32 | None = None


class Auditor:
    """Decides what to audit, and what an audit's outcome says. Called in turns by the gateway.

    Args:
        begin: takes an audit's layer call until it is finished; then `finished` is called.
        draw: a number in [0, 1) nobody outside can guess.
    """

    def __init__(
        self,
        caller: ExpertCaller,
        begin: Callable[[LayerCall, Opinion], None],
        share: float = SHARE,
        draw: Callable[[], float] | None = None,
    ) -> None:
        self._caller = caller
        self._begin = begin
        self.share = share
        self._tolerance = max((TOLERANCE[codec] for codec in caller.peers.codecs), default=0.0)  # nobody to audit
        self.draw = draw or random.Random(secrets.randbits(128)).random
        self._suspicions: dict[str, set[str]] = {}
        self.under_way = 0
        self.audits = 0
        self.alone = 0
        """Answers that were drawn, but nobody else holds the same experts."""

    def consider(self, call: LayerCall) -> None:
        """Every answer of a finished layer; a few of them are asked again."""
        for index in range(call.answers):
            if self.draw() < self.share and self.under_way < UNDER_WAY:
                answer = call.answer(index)
                whole = np.arange(len(answer.hidden), dtype=np.intp)
                if not self._ask(Opinion(answer, whole, (answer.call.host,))):
                    self.alone += 1

    def _ask(self, opinion: Opinion) -> bool:
        """Give rows to one holder that has not been asked yet; False when nobody holds all experts of any row."""
        answer = opinion.answer
        experts, weights = answer.call.experts[opinion.rows], answer.call.weights[opinion.rows]
        witness, able = self._witness(answer, experts, opinion.asked)
        if witness < 0:
            return False
        experts, weights = experts[able], weights[able]
        n = len(experts)
        picks = Picks(
            experts, np.where(experts >= 0, witness, -1).astype(np.int16), weights, np.full((n, 1), -1, np.int16),
            np.zeros((n, 1), np.float32), np.ones(n, np.float32), np.zeros(n, np.intp),
        )  # fmt: skip
        rows = opinion.rows[able]
        nobody: list[list[int]] = [[] for _ in answer.holders]
        call = self._caller.call(
            answer.layer, answer.hidden[rows], table_of(picks), answer.plan, nobody, answer.request, answer.adapter,
            _as_served(answer, witness),
        )  # fmt: skip
        self.under_way += 1
        self.audits += 1
        self._begin(call, opinion._replace(rows=rows, asked=(*opinion.asked, witness)))
        return True

    def _witness(
        self, answer: Answer, experts: NDArray[np.int16], asked: tuple[int, ...]
    ) -> tuple[int, NDArray[np.bool_]]:
        """The node that can repeat most rows alone (ourselves first), and which; -1 if there is none. One witness
        a round: of two that answered together nobody could say which one lied."""
        own = self._caller.peers.node
        best = -1
        able: NDArray[np.bool_] = np.zeros(len(experts), np.bool_)
        for node in sorted({h for hosts in answer.holders for h in hosts} - set(asked)):
            holds = np.array([node in hosts for hosts in answer.holders])
            can: NDArray[np.bool_] = np.all(holds[experts] | (experts < 0), axis=1)
            if can.any() and (can.sum() > able.sum() or answer.plan.nodes[node] == own):
                best, able = node, can
                if answer.plan.nodes[node] == own:
                    break
        return best, able

    def finished(self, opinion: Opinion, outcome: Outcome) -> None:
        """What the newest witness says about an answer."""
        self.under_way -= 1
        if outcome.lost.any():
            return  # it could not say
        answer, nodes = opinion.answer, opinion.answer.plan.nodes
        host, *witnesses = (nodes[n] for n in opinion.asked)
        tolerance = self._tolerance if answer.manner.sending is None else TOLERANCE["int4"]
        agrees = not differ(answer.partial[opinion.rows], outcome.total, tolerance)
        if opinion.second is None:
            if agrees:
                return
            self._caller.tell("ReplyDisputed", host, f"layer {answer.layer}: {witnesses[0]} found another sum")
            if witnesses[0] == self._caller.peers.node:
                self._convict(host, answer.layer, "our own computation gives another sum")
                return
            second = np.zeros_like(answer.partial)
            second[opinion.rows] = outcome.total
            if not self._ask(opinion._replace(second=second)):
                self._suspect(host, witnesses[0])
        elif not differ(opinion.second[opinion.rows], outcome.total, tolerance):
            if not agrees:
                self._convict(host, answer.layer, "two others agree on another sum")
        elif agrees:
            self._convict(witnesses[0], answer.layer, "two others agree on another sum")
        else:
            self._suspect(host, witnesses[0])

    def _suspect(self, one: str, other: str) -> None:
        """One of the two lied."""
        for name, against in ((one, other), (other, one)):
            self._suspicions.setdefault(name, set()).add(against)
        for name in (one, other):
            if len(self._suspicions[name]) >= 2:
                self._caller.hosts.quarantine(name, "two others each found another sum than it did")
                return

    def _convict(self, host: str, layer: int, why: str) -> None:
        self._caller.hosts.quarantine(host, f"layer {layer}: {why}")


def differ(a: F32, b: F32, tolerance: float) -> bool:
    """Is any row of [n, H] further from its counterpart than `tolerance` of the larger norm?"""
    gap = np.linalg.norm(a - b, axis=1)
    size = np.maximum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    return bool((gap > tolerance * size + 1e-6).any())


def _as_served(answer: Answer, witness: int) -> Manner:
    """The witness must compute what the host was asked for, at the same precision."""
    served = {expert: p for (expert, node), p in answer.manner.precision.items() if node == answer.call.host}
    return answer.manner._replace(precision={(expert, witness): p for expert, p in served.items()})
