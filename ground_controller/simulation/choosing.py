"""The gate over recorded scores, some positions ahead: rows are independent, and those to come are known already.

One call of the gate's kernel for many rows costs little more than for one. What was chosen ahead is thrown away when
the plan or the set of live nodes is another.
"""

from __future__ import annotations

from typing import NamedTuple

from ground_controller.simulation.step import SimStep
from hil_config.wire.manifest import Routing
from models.serving.gate import LayerGate, Picks, row_fraction, select

AHEAD_ROWS = 16


class _Block(NamedTuple):
    """What `gate` chose for positions from `start` on."""

    gate: LayerGate
    start: int
    picks: Picks


class Ahead:
    """Choices of the requests of one gateway."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[int, _Block]] = {}

    def forget(self, request: int) -> None:
        """It has ended."""
        self._kept.pop(request, None)

    def rows(self, step: SimStep, layer: int, gate: LayerGate, routing: Routing) -> Picks:
        """The gate's answer for the rows of a step."""
        if step.rows > 1:
            return _choose(step, layer, gate, routing, step.rows)
        layers = self._kept.setdefault(step.request, {})
        block = layers.get(layer)
        at = -1 if block is None or block.gate is not gate else step.start - block.start
        if block is None or not 0 <= at < len(block.picks.kept):
            block = layers[layer] = _Block(gate, step.start, _choose(step, layer, gate, routing, AHEAD_ROWS))
            at = 0
        return block.picks.row(at)


def _choose(step: SimStep, layer: int, gate: LayerGate, routing: Routing, rows: int) -> Picks:
    trace = step.trace
    span = slice(step.start, step.start + rows)
    scores = trace.scores[layer, span]
    mixing = None if trace.mixing is None else trace.mixing[layer, span]
    return select(gate, scores, routing, row_fraction(step.request, step.start, len(scores), layer), mixing)
