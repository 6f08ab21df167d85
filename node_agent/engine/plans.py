"""The plans a gateway knows: the newest by default, an older one when a step was pinned to it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from hil_config.wire.manifest import ModelCard, Precision
from hil_config.wire.plan import SelectionPlan
from models.serving.layer_gate import LayerGate, check_plan, compile_layer, unpriced
from models.serving.transmission import Sending, compile_sending

KEPT = 32


class Pinned(NamedTuple):
    """A plan for one step: as published, or its stated fallback when `expired`."""

    plan: SelectionPlan
    expired: bool
    sending: Sending | None = None


class Manner(NamedTuple):
    """By (expert, node) at which precision it is served, where the plan says so; the plan's rules of transmission."""

    precision: Mapping[tuple[int, int], Precision] = MappingProxyType({})
    sending: Sending | None = None


PLAIN = Manner()


class CompiledLayer(NamedTuple):
    """A layer of a plan against the nodes that are live: its gate, for each expert who may serve it, and how."""

    gate: LayerGate
    holders: list[list[int]]
    manner: Manner


class _Known(NamedTuple):
    plan: SelectionPlan
    received_s: float
    sending: Sending | None


class PlanBook:
    """Recent plans by version, and the layer gates compiled from them."""

    def __init__(self, model: ModelCard, first: SelectionPlan) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._plans: OrderedDict[int, _Known] = OrderedDict()
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
            self._plans[plan.version] = _Known(plan, time.monotonic(), compile_sending(plan.transmission))
            while len(self._plans) > KEPT:
                self._plans.popitem(last=False)
        return True

    def pin(self, version: int = -1) -> Pinned:
        """The plan of that version if it is still known, else the newest; unpriced if its time is over."""
        with self._lock:
            plan, received_s, sending = self._plans.get(version) or next(reversed(self._plans.values()))
        if time.monotonic() - received_s > plan.ttl_s:
            return Pinned(unpriced(plan, self._model.routing.top_k), True)
        return Pinned(plan, False, sending)

    def layer(self, pinned: Pinned, layer: int, alive: bytes) -> CompiledLayer:
        """Compiled once per plan, layer and set of live nodes: in `alive` a byte each, 1 or 0."""
        key = (pinned.plan.version, pinned.expired, layer, alive)
        found = self._gates.get(key)
        if found is None:
            holders = [[s.node for s in hosts if alive[s.node]] for hosts in pinned.plan.layers[layer].hosts]
            found = CompiledLayer(
                compile_layer(pinned.plan, layer, np.frombuffer(alive, np.bool_)), holders,
                Manner(pinned.plan.layers[layer].precisions(), pinned.sending),
            )  # fmt: skip
            with self._lock:
                self._gates[key] = found
                while len(self._gates) > 8 * KEPT:
                    self._gates.popitem(last=False)
        return found
