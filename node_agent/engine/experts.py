"""The experts a node holds: weighted partial sums over them."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import LocalProtocolError
from hil_config.wire.messages import ExpertHolding
from node_agent.shards.sessions import Session
from node_agent.shards.store import ShardStore

F32 = NDArray[np.float32]
Sessions = dict[tuple[int, int], Session]
_ONLY_ROW = np.zeros(1, np.intp)


class Partial(NamedTuple):
    """`total` float32 [n, H]; `runtime_us` spent inside onnxruntime; `calls` expert rows computed."""

    total: F32
    runtime_us: float
    calls: int


class NotHeld(LocalProtocolError):
    """An expert was asked for that this node does not hold."""


class ExpertBank:
    """Sessions of the experts held now. What is held is replaced as a whole; a call ends with what it began with."""

    def __init__(self, store: ShardStore, holdings: tuple[ExpertHolding, ...]) -> None:
        self._sessions = open_experts(store, holdings)

    def replace(self, sessions: Sessions) -> None:
        """From the next call on."""
        self._sessions = sessions

    def partial_sum(self, layer: int, hidden: F32, experts: NDArray[np.int16], weights: F32) -> Partial:
        """Sum over k of weights[i, k] * expert[i, k](hidden[i]) for rows hidden [n, H]; -1 is no expert."""
        sessions = self._sessions
        total = np.zeros_like(hidden)
        runtime_s = 0.0
        calls = 0
        for expert in set(experts.ravel().tolist()) - {-1}:
            session = sessions.get((layer, expert))
            if session is None:
                raise NotHeld(f"layer {layer} expert {expert} is not held here")
            # A row may name an expert twice (a substitute): its weights add up.
            share = np.where(experts == expert, weights, 0.0).sum(axis=1, dtype=np.float32)
            rows = np.nonzero((experts == expert).any(axis=1))[0] if len(hidden) > 1 else _ONLY_ROW
            start_s = time.perf_counter()
            (output,) = session.run(hidden[rows])
            runtime_s += time.perf_counter() - start_s
            total[rows] += output * share[rows, None]
            calls += len(rows)
        return Partial(total, runtime_s * 1e6, calls)


def open_experts(store: ShardStore, holdings: tuple[ExpertHolding, ...]) -> Sessions:
    """Verified sessions by (layer, expert); ArtefactError if one is not what the manifest says."""
    return {(h.layer, h.expert): store.session("expert", h.precision, h.layer, h.expert) for h in holdings}
