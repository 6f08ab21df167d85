"""The model in one process whose gate is told a plan: what a selection policy's answer really costs in nats.

The gate is the boards' (`models/serving/gate.py`) and the experts are the real quantised ones, so hidden states after a
skipped or replaced expert are the disturbed ones, as in a distributed run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from hil_config.wire.manifest import Precision
from hil_config.wire.plan import SelectionPlan
from models.oracle import FloatArray, IntArray, Oracle
from models.serving.gate import LayerGate, compile_layer, select


class Planned(Oracle):
    """An oracle that follows `follow`'s plan; with none yet it routes as the model does."""

    def __init__(self, folder: Path, precision: Precision = "int8") -> None:
        super().__init__(folder, precision)
        self._gates: tuple[LayerGate, ...] = ()

    def follow(self, plan: SelectionPlan) -> None:
        """Route by this plan from now on, all of its nodes alive."""
        self._gates = gates_of(plan)

    def choose(self, layer: int, scores: FloatArray, mixing: FloatArray | None = None) -> tuple[IntArray, FloatArray]:
        if not self._gates:
            return super().choose(layer, scores, mixing)
        found = select(self._gates[layer], scores, self.card.routing, np.zeros(len(scores)), mixing)
        return _merged(found.experts.astype(np.int64), found.weights)


def _merged(experts: IntArray, weights: FloatArray) -> tuple[IntArray, FloatArray]:
    """An expert that is also another's substitute occurs twice in a row: its weights are added up."""
    experts, weights = experts.copy(), weights.copy()
    for later in range(1, experts.shape[1]):
        for earlier in range(later):
            twice = (experts[:, later] == experts[:, earlier]) & (experts[:, later] >= 0)
            weights[twice, earlier] += weights[twice, later]
            experts[twice, later] = -1
    return experts, weights


def gates_of(plan: SelectionPlan) -> tuple[LayerGate, ...]:
    """The plan's layers for the kernel, all nodes alive."""
    alive = np.ones(len(plan.nodes), np.bool_)
    return tuple(compile_layer(plan, layer, alive) for layer in range(len(plan.layers)))


def choice_key(plan: SelectionPlan) -> str:
    """Equal for plans under which every row uses the same experts with the same weights, whoever serves them."""
    digest = hashlib.sha256()
    for gate in gates_of(plan):
        numbers = (gate.coverage, gate.k_min, gate.k_max, gate.threshold)
        for part in (np.array(numbers), np.asarray(gate.gain), gate.price, gate.live, gate.target):
            digest.update(part.tobytes())
    return digest.hexdigest()
