"""The plans a gateway knows: the newest by default, an older one when a step was pinned to it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.manifest import ModelCard
from hil_config.wire.plan import SelectionPlan
from models.serving.gate import LayerGate, check_plan, compile_layer, unpriced

KEPT = 32


class Pinned(NamedTuple):
    """A plan for one step: as published, or its stated fallback when `expired`."""

    plan: SelectionPlan
    expired: bool


class CompiledLayer(NamedTuple):
    """A layer of a plan against the nodes that are live: its gate, and for each expert who may serve it."""

    gate: LayerGate
    holders: list[list[int]]


class PlanBook:
    """Recent plans by version, and the layer gates compiled from them."""

    def __init__(self, model: ModelCard, first: SelectionPlan) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._plans: OrderedDict[int, tuple[SelectionPlan, float]] = OrderedDict()
        self._gates: OrderedDict[tuple[int, bool, int, bytes], CompiledLayer] = OrderedDict()
        self.epoch = first.epoch
        self.accept(first)

    def accept(self, plan: SelectionPlan) -> bool:
        """Keep a plan that fits the model; an older controller's is refused (False)."""
        check_plan(plan, self._model.layers, self._model.experts)
        with self._lock:
            if plan.epoch < self.epoch:
                return False
            self.epoch = plan.epoch
            self._plans[plan.version] = (plan, time.monotonic())
            while len(self._plans) > KEPT:
                self._plans.popitem(last=False)
        return True

    def pin(self, version: int = -1) -> Pinned:
        """The plan of that version if it is still known, else the newest; unpriced if its time is over."""
        with self._lock:
            plan, received_s = self._plans.get(version) or next(reversed(self._plans.values()))
        if time.monotonic() - received_s > plan.ttl_s:
            return Pinned(unpriced(plan, self._model.routing.top_k), True)
        return Pinned(plan, False)

    def layer(self, pinned: Pinned, layer: int, alive: NDArray[np.bool_]) -> CompiledLayer:
        """Compiled once per plan, layer and set of live nodes."""
        key = (pinned.plan.version, pinned.expired, layer, alive.tobytes())
        with self._lock:
            found = self._gates.get(key)
        if found is None:
            holders = [[s.node for s in hosts if alive[s.node]] for hosts in pinned.plan.layers[layer].hosts]
            found = CompiledLayer(compile_layer(pinned.plan, layer, alive), holders)
            with self._lock:
                self._gates[key] = found
                while len(self._gates) > 8 * KEPT:
                    self._gates.popitem(last=False)
        return found
