"""The whole model in one process from its shards: the yardstick that distributed runs are compared with.

Plain numpy routing over onnxruntime sessions, one request at a time, no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from hil_config.errors import UsageError
from hil_config.wire.manifest import Precision, Routing, ShardKind, read_manifest, read_shard
from models.session import open_shard

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Observer = Callable[[int, IntArray, FloatArray], None]


@dataclass
class Cache:
    """Keys and values of the tokens so far, per layer [1, P, heads, size]."""

    keys: list[FloatArray] = field(default_factory=list)
    values: list[FloatArray] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.keys[0])


def route(scores: FloatArray, routing: Routing, mixing: FloatArray | None = None) -> tuple[IntArray, FloatArray]:
    """Picks [T, k] in falling score and mixing weights [T, k] from scores [T, E]; ties take the lower.

    `mixing` [T, E]: finished weights, where the model's are not its scores.
    """
    picks = np.argsort(-scores, axis=1, kind="stable")[:, : routing.top_k]
    weights = np.take_along_axis(scores if mixing is None else mixing, picks, axis=1)
    if routing.normalise_top_k:
        weights = weights / weights.sum(axis=1, keepdims=True)
    return picks.astype(np.int64), weights


def _never_empty(past: FloatArray) -> FloatArray:
    """[P, 1, heads, size], or one position of padding where there is none (see `models.export_onnx`)."""
    return past if len(past) else np.zeros((1, *past.shape[1:]), np.float32)


class Oracle:
    """All shards of a model folder at one expert precision. `observer` sees (layer, picks, ||w y||).

    Experts in `lost`, as (layer, expert), are left out when picked; the other weights stay as they are.
    """

    def __init__(self, folder: Path, precision: Precision = "int8", observer: Observer | None = None) -> None:
        self.lost: frozenset[tuple[int, int]] = frozenset()
        manifest = read_manifest(folder)
        self.card, self.precision, self.observer = manifest.model, precision, observer

        def session(kind: ShardKind, of: Precision = "fp32", layer: int = -1, expert: int = -1) -> ort.InferenceSession:
            shard = manifest.find(kind, of, layer, expert)
            return open_shard(shard, read_shard(folder, shard))

        layers, experts = range(self.card.layers), range(self.card.experts)
        trunk = self.card.trunk_precision
        self._embed, self._head = session("embed", trunk), session("head", trunk)
        self._trunk = [session("trunk", trunk, layer) for layer in layers]
        self._experts = [[session("expert", precision, layer, expert) for expert in experts] for layer in layers]

    def new_cache(self) -> Cache:
        shapes = [self.card.cache_shape(layer) for layer in range(self.card.layers)]
        return Cache(
            [np.zeros((0, 1, heads, key), dtype=np.float32) for heads, key, _ in shapes],
            [np.zeros((0, 1, heads, value), dtype=np.float32) for heads, _, value in shapes],
        )

    def choose(self, layer: int, scores: FloatArray, mixing: FloatArray | None = None) -> tuple[IntArray, FloatArray]:
        """Picks [T, k], none twice in a row and -1 for none, and their weights [T, k]: the model's own."""
        return route(scores, self.card.routing, mixing)

    def mix(self, layer: int, rows: FloatArray, scores: FloatArray, mixing: FloatArray | None = None) -> FloatArray:
        """Weighted sum [T, H] of the picked experts' outputs for expert inputs [T, H]."""
        picks, weights = self.choose(layer, scores, mixing)
        mixed, norms = np.zeros_like(rows), np.zeros_like(weights)
        for expert in np.unique(picks):
            if expert < 0 or (layer, int(expert)) in self.lost:
                continue
            token, slot = np.nonzero(picks == expert)
            output = self._experts[layer][expert].run(None, {"x": rows[token]})[0]
            weighted = output * weights[token, slot, None]
            mixed[token] += weighted  # an expert occurs once a token, so no row repeats
            norms[token, slot] = np.linalg.norm(weighted, axis=1)
        if self.observer is not None:
            self.observer(layer, picks, norms)
        return mixed

    def extend(self, cache: Cache, tokens: Sequence[int]) -> FloatArray:
        """Logits [T, V] of new tokens after those in the cache, which grows by them."""
        if not tokens:
            raise UsageError("no tokens: got an empty prompt, wanted at least one token", "give some text")
        position = np.arange(cache.length, cache.length + len(tokens), dtype=np.int64)
        hidden = self._embed.run(None, {"tokens": np.array(tokens, dtype=np.int64)})[0]
        for layer, trunk in enumerate(self._trunk):
            feeds = {
                "hidden": hidden,
                "past_key": _never_empty(cache.keys[layer]),
                "past_value": _never_empty(cache.values[layer]),
                "position": position[None],
            }
            residual, rows, scores, *mixing, key, value = trunk.run(None, feeds)
            cache.keys[layer] = np.concatenate((cache.keys[layer], key.swapaxes(0, 1)))
            cache.values[layer] = np.concatenate((cache.values[layer], value.swapaxes(0, 1)))
            hidden = residual + self.mix(layer, rows, scores, *mixing)
        logits: FloatArray = self._head.run(None, {"hidden": hidden})[0]
        return logits

    def prefill(self, tokens: Sequence[int]) -> tuple[Cache, FloatArray]:
        """A new cache and the logits [T, V] of all tokens in one pass."""
        cache = self.new_cache()
        return cache, self.extend(cache, tokens)

    def decode(self, cache: Cache, token: int) -> FloatArray:
        """Logits [V] after one more token."""
        return np.asarray(self.extend(cache, [token])[0])

    def generate_greedy(self, tokens: Sequence[int], n: int) -> tuple[list[int], list[float]]:
        """`n` new tokens and, for each, the margin between the best and the second logit."""
        cache, logits = self.prefill(tokens)
        row, new, margins = logits[-1], [], []
        for index in range(n):
            second, best = np.partition(row, -2)[-2:]
            new.append(int(row.argmax()))
            margins.append(float(best - second))
            if index + 1 < n:
                row = self.decode(cache, new[-1])
        return new, margins

    def nll(self, tokens: Sequence[int]) -> float:
        """Mean negative log-likelihood in nats of each token but the first, given those before it."""
        if len(tokens) < 2:
            raise UsageError(f"nll: got {len(tokens)} tokens, wanted at least 2", "give a longer text")
        logits = self.prefill(tokens[:-1])[1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_norm = np.log(np.exp(logits).sum(axis=1))
        picked = logits[np.arange(len(logits)), np.array(tokens[1:], dtype=np.int64)]
        return float((log_norm - picked).mean())
