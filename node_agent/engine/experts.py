"""The experts a node holds: weighted partial sums over them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import LocalProtocolError
from hil_config.wire.messages import ExpertHolding
from node_agent.shards.sessions import Session
from node_agent.shards.store import ShardStore

F32 = NDArray[np.float32]
Sessions = dict[tuple[int, int], Session]


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
        self._deltas = store.deltas

    def replace(self, sessions: Sessions) -> None:
        """From the next call on."""
        self._sessions = sessions

    def partial_sum(
        self, layer: int, hidden: F32, experts: NDArray[np.int16], weights: F32, adapter: str = ""
    ) -> Partial:
        """Sum over k of weights[i, k] * expert[i, k](hidden[i]) for rows hidden [n, H]; -1 is no expert."""
        sessions = self._sessions
        feeds = self._deltas.feeds(adapter)
        if feeds is None:
            raise NotHeld(f"delta {adapter!r} is not here")
        total = np.zeros_like(hidden)
        runtime_s = 0.0
        calls = 0
        for expert, rows, share in _by_expert(experts, weights):
            session = sessions.get((layer, expert))
            if session is None:
                raise NotHeld(f"layer {layer} expert {expert} is not held here")
            start_s = time.perf_counter()
            (output,) = session.run(hidden if rows is None else hidden[rows], extra=feeds.get((layer, expert)))
            runtime_s += time.perf_counter() - start_s
            if rows is None:
                total += output * share
                calls += len(hidden)
            else:
                total[rows] += output * share
                calls += len(rows)
        return Partial(total, runtime_s * 1e6, calls)


def _by_expert(
    experts: NDArray[np.int16], weights: F32
) -> Iterator[tuple[int, NDArray[np.intp] | None, NDArray[np.float32] | np.float32]]:
    """(expert, rows that use it or None for all, their weights [rows, 1]). A row may name an expert twice (a
    substitute): its weights add up."""
    if len(experts) == 1:
        shares: dict[int, float] = {}
        for expert, weight in zip(experts[0].tolist(), weights[0].tolist(), strict=True):
            if expert >= 0:
                shares[expert] = shares.get(expert, 0.0) + weight
        for expert, weight in shares.items():
            yield expert, None, np.float32(weight)
        return
    for expert in set(experts.ravel().tolist()) - {-1}:
        mine = experts == expert
        rows = np.nonzero(mine.any(axis=1))[0]
        yield expert, rows, np.where(mine[rows], weights[rows], 0.0).sum(axis=1, dtype=np.float32)[:, None]


def open_experts(store: ShardStore, holdings: tuple[ExpertHolding, ...]) -> Sessions:
    """Verified sessions by (layer, expert); ArtefactError if one is not what the manifest says."""
    return {(h.layer, h.expert): store.session("expert", h.precision, h.layer, h.expert) for h in holdings}
