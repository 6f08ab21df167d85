"""The trunk shards of a gateway: attention, router and head of its layers."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.messages import Prepare
from node_agent.engine.kv_cache import RequestCache
from node_agent.shards.store import ShardStore

F32 = NDArray[np.float32]


class TrunkStep(NamedTuple):
    """`residual` [T, H]; `expert_input` [T, H]; `scores` [T, E]; microseconds inside onnxruntime."""

    residual: F32
    expert_input: F32
    scores: F32
    runtime_us: float


class Choice(NamedTuple):
    """Greedy next token with its log probability and its logit's lead over the second best."""

    token: int
    logprob: float
    margin: float
    runtime_us: float


class Trunk:
    """Sessions of the trunk layers this node holds; embed and head belong to every gateway."""

    def __init__(self, store: ShardStore, order: Prepare) -> None:
        self.model = store.manifest.model
        self.layers = order.trunk_layers
        self._layers = {n: store.session("trunk", "fp32", n) for n in order.trunk_layers}
        last = self.model.layers - 1
        self._embed = store.session("embed", "fp32") if 0 in order.trunk_layers else None
        self._head = store.session("head", "fp32") if last in order.trunk_layers else None

    def embed(self, tokens: NDArray[np.int32]) -> F32:
        """[T] token ids to [T, H]."""
        assert self._embed is not None, "only the holder of layer 0 embeds"
        (hidden,) = self._embed.run(tokens.astype(np.int64))
        return hidden

    def step(self, layer: int, hidden: F32, start: int, cache: RequestCache) -> TrunkStep:
        """Attention and router of one layer over rows at positions start..; writes the cache."""
        past_key, past_value = cache.past(layer)
        position = np.arange(start, start + len(hidden), dtype=np.int64)
        begin_s = time.perf_counter()
        residual, expert_input, scores, key, value = self._layers[layer].run(hidden, past_key, past_value, position)
        runtime_us = (time.perf_counter() - begin_s) * 1e6
        cache.write(layer, key, value)
        return TrunkStep(residual, expert_input, scores, runtime_us)

    def score(self, hidden: F32, tokens: NDArray[np.int32]) -> tuple[F32, float]:
        """Log-probability [T - 1] of each of `tokens` [T] but the first, given [T, H]; microseconds in onnxruntime."""
        assert self._head is not None, "only the holder of the last layer has the head"
        begin_s = time.perf_counter()
        (logits,) = self._head.run(hidden[:-1])
        runtime_us = (time.perf_counter() - begin_s) * 1e6
        shifted = logits - logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(shifted).sum(axis=1, dtype=np.float64))
        picked = shifted[np.arange(len(shifted)), tokens[1:].astype(np.int64)]
        return (picked - total).astype(np.float32), runtime_us

    def choose(self, hidden: F32) -> Choice:
        """The most probable token after the last row of [T, H]."""
        assert self._head is not None, "only the holder of the last layer has the head"
        begin_s = time.perf_counter()
        (logits,) = self._head.run(hidden[-1:])
        runtime_us = (time.perf_counter() - begin_s) * 1e6
        row = logits[0]
        token = int(row.argmax())
        first = float(row[token])
        logprob = -float(np.log(np.exp(row - first).sum(dtype=np.float64)))
        row[token] = -np.inf
        return Choice(token, logprob, first - float(row.max()), runtime_us)
