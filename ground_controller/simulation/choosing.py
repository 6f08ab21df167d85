"""The gate over recorded scores, some positions ahead: rows are independent, and those to come are known already.

One call of the gate's kernel for many rows costs little more than for one. What was chosen ahead is thrown away when
the plan or the set of live nodes is another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ground_controller.simulation.step import SimStep
from hil_config.wire.manifest import Precision, Routing
from hil_config.wire.plan import SelectionPlan
from models.serving.gate import select
from models.serving.layer_gate import LayerGate, Picks, compile_layer, row_fraction
from models.serving.pick_table import PickTable, part_of, reserves_of, table_of
from models.serving.transmission import Sending

AHEAD_ROWS = 16

_T = TypeVar("_T", bound=np.generic)


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


class Chosen:
    """What the gate chose for rows of a request from position `start` on: as plain values, and as evidence has it."""

    __slots__ = (
        "columns", "compiled", "experts", "hosts", "idle", "kept", "picks", "rerouted", "rows", "start", "weights"
    )  # fmt: skip

    def __init__(self, compiled: Compiled, start: int, picks: Picks) -> None:
        self.compiled = compiled
        self.start = start
        self.picks = picks
        self.rows, self.columns = picks.experts.shape
        _, self.experts, self.weights, self.hosts, _ = table_of(picks)
        self.idle = max(self.hosts, default=-1) < 0
        self.kept: list[float] = picks.kept.tolist()
        self.rerouted: list[int] = picks.rerouted.tolist()

    def evidence(self, at: int, rows: int) -> tuple[bytes, bytes]:
        """Experts and hosts of rows [at, at + rows)."""
        return self.picks.experts[at : at + rows].tobytes(), self.picks.hosts[at : at + rows].tobytes()

    def mean_kept(self, at: int, rows: int) -> float:
        return self.kept[at] if rows == 1 else float(self.picks.kept[at : at + rows].mean())


class Part(NamedTuple):
    """The rows of one step: `length` of `chosen` from number `at` on."""

    chosen: Chosen
    at: int
    length: int

    @property
    def hosts(self) -> list[int]:
        """Of all picks of its rows; -1: none."""
        columns = self.chosen.columns
        return self.chosen.hosts[self.at * columns : (self.at + self.length) * columns]


def joined(parts: list[Part], rows: int) -> PickTable:
    """The `rows` rows of several steps, which go through a layer together."""
    experts: list[int] = []
    weights: list[float] = []
    hosts: list[int] = []
    for chosen, at, count in parts:
        span = slice(at * chosen.columns, (at + count) * chosen.columns)
        experts += chosen.experts[span]
        weights += chosen.weights[span]
        hosts += chosen.hosts[span]
    return PickTable(rows, experts, weights, hosts, partial(_reserves, parts))


def _reserves(parts: list[Part], row: int) -> list[tuple[int, float]]:
    for chosen, at, count in parts:
        if row < count:
            return reserves_of(chosen.picks, at + row)
        row -= count
    raise IndexError(row)


class Ahead:
    """Choices of the requests of one gateway. `width`: of a hidden state."""

    def __init__(self, routing: Routing, width: int) -> None:
        self._routing = routing
        self._width = width
        self._kept: dict[int, dict[int, Chosen]] = {}

    def forget(self, request: int) -> None:
        """It has ended."""
        self._kept.pop(request, None)

    def rows(self, steps: list[SimStep], layer: int, compiled: Compiled) -> list[Part]:
        """The gate's answer for the rows of each step, without those that are not worth sending."""
        found = {at: part for at, step in enumerate(steps) if (part := self._known(step, layer, compiled))}
        missing = [at for at in range(len(steps)) if at not in found]
        fresh = self._choose([steps[at] for at in missing], layer, compiled) if missing else []
        for at, chosen in zip(missing, fresh, strict=True):
            step = steps[at]
            found[at] = Part(chosen, 0, step.rows)
            if step.rows == 1:
                self._kept.setdefault(step.request, {})[layer] = chosen
        return [found[at] for at in range(len(steps))]

    def _known(self, step: SimStep, layer: int, compiled: Compiled) -> Part | None:
        """One row that was chosen ahead."""
        chosen = self._kept.get(step.request, {}).get(layer) if step.rows == 1 else None
        if chosen is None or chosen.compiled is not compiled:
            return None
        at = step.start - chosen.start
        return Part(chosen, at, 1) if 0 <= at < chosen.rows else None

    def _choose(self, steps: list[SimStep], layer: int, compiled: Compiled) -> list[Chosen]:
        """For every step its rows, or one and those to come, in one call of the kernel."""
        spans = [slice(step.start, step.start + (step.rows if step.rows > 1 else AHEAD_ROWS)) for step in steps]
        pairs = list(zip(steps, spans, strict=True))
        scores = [step.trace.scores[layer, span] for step, span in pairs]
        mixing = [step.trace.mixing[layer, span] for step, span in pairs if step.trace.mixing is not None]
        fractions = [row_fraction(s.request, s.start, len(rows), layer) for s, rows in zip(steps, scores, strict=True)]
        picks = select(
            compiled.gate, _together(scores), self._routing, _together(fractions), _together(mixing) if mixing else None
        )
        rules = compiled.sending
        if rules is not None and rules.drop:
            picks = rules.keep(picks, compiled.own, layer, self._width)
        ends = np.cumsum([0, *map(len, scores)]).tolist()
        return [
            Chosen(compiled, step.start, part_of(picks, a, b))
            for step, (a, b) in zip(steps, pairwise(ends), strict=True)
        ]


def _together(parts: list[NDArray[_T]]) -> NDArray[_T]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
