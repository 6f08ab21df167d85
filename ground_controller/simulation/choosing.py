"""The gate over recorded scores, some positions ahead: rows are independent, and those to come are known already.

One call of the gate's kernel for many rows costs little more than for one. What was chosen ahead is thrown away when
the plan or the set of live nodes is another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ground_controller.simulation.step import SimStep
from hil_config.wire.manifest import Precision, Routing
from hil_config.wire.plan import SelectionPlan
from models.serving.gate import LayerGate, Picks, compile_layer, row_fraction, select
from models.serving.transmission import Sending

AHEAD_ROWS = 16


@dataclass(frozen=True, eq=False)
class Compiled:
    """A layer of a plan against the nodes that are live, at gateway `own`: for each expert who may serve it, and at
    which precision by (expert, node); the rules of transmission, where the plan has some."""

    gate: LayerGate
    holders: list[list[int]]
    own: int
    precision: dict[tuple[int, int], Precision]
    sending: Sending | None


def compile_for(plan: SelectionPlan, layer: int, live: bytes, own: int, sending: Sending | None) -> Compiled:
    """`live`: a byte for every node of the plan."""
    alive = np.frombuffer(live, np.bool_)
    holders = [[s.node for s in hosts if alive[s.node]] for hosts in plan.layers[layer].hosts]
    return Compiled(compile_layer(plan, layer, alive), holders, own, plan.layers[layer].precisions(), sending)


class _Block(NamedTuple):
    """What was chosen for positions from `start` on."""

    compiled: Compiled
    start: int
    picks: Picks


class Ahead:
    """Choices of the requests of one gateway. `width`: of a hidden state."""

    def __init__(self, routing: Routing, width: int) -> None:
        self._routing = routing
        self._width = width
        self._kept: dict[int, dict[int, _Block]] = {}

    def forget(self, request: int) -> None:
        """It has ended."""
        self._kept.pop(request, None)

    def rows(self, step: SimStep, layer: int, compiled: Compiled) -> Picks:
        """The gate's answer for the rows of a step, without those that are not worth sending."""
        if step.rows > 1:
            return self._choose(step, layer, compiled, step.rows)
        layers = self._kept.setdefault(step.request, {})
        block = layers.get(layer)
        at = -1 if block is None or block.compiled is not compiled else step.start - block.start
        if block is None or not 0 <= at < len(block.picks.kept):
            block = _Block(compiled, step.start, self._choose(step, layer, compiled, AHEAD_ROWS))
            layers[layer], at = block, 0
        return block.picks.row(at)

    def _choose(self, step: SimStep, layer: int, compiled: Compiled, rows: int) -> Picks:
        trace = step.trace
        span = slice(step.start, step.start + rows)
        scores = trace.scores[layer, span]
        mixing = None if trace.mixing is None else trace.mixing[layer, span]
        fraction = row_fraction(step.request, step.start, len(scores), layer)
        picks = select(compiled.gate, scores, self._routing, fraction, mixing)
        rules = compiled.sending
        return rules.keep(picks, compiled.own, layer, self._width) if rules is not None and rules.drop else picks
