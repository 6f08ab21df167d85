"""The trunk shards of a gateway: attention, router and head of its layers."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import ArtefactError, LocalProtocolError
from models.serving.batching import CHUNK_ROWS
from node_agent.engine.kv_cache import RequestCache, length_class, pasts
from node_agent.shards.sessions import Session
from node_agent.shards.store import ShardStore

F32 = NDArray[np.float32]


class Rows(NamedTuple):
    """Rows [T, H] of one request at positions start.., and its cache."""

    hidden: F32
    start: int
    cache: RequestCache


Fresh = tuple[Sequence[Rows], F32, F32]
"""Parts, and for each the rows of keys and values [B, T, heads, size] that go into its cache."""


class TrunkStep(NamedTuple):
    """Rows of all requests one after the other: `residual` [T, H]; `expert_input` [T, H]; `scores` [T, E];
    `mixing` [T, E], the router's mixing weights where they are not its scores; microseconds inside onnxruntime;
    what `keep` writes."""

    layer: int
    residual: F32
    expert_input: F32
    scores: F32
    mixing: F32 | None
    runtime_us: float
    fresh: list[Fresh]

    def keep(self) -> None:
        """Write the caches. Nobody waits for it: calls to experts can be on their way."""
        for group, keys, values in self.fresh:
            for at, part in enumerate(group):
                part.cache.write(self.layer, keys[at], values[at])


class Choice(NamedTuple):
    """Greedy next token with its log probability and its logit's lead over the second best."""

    token: int
    logprob: float
    margin: float


class TrunkSessions(NamedTuple):
    """The trunk layers that are held; embedding and head come with the first and the last layer."""

    layers: dict[int, Session]
    embedding: Session | None
    head: Session | None

    def embed(self, tokens: NDArray[np.int32]) -> F32:
        """[T] token ids to [T, H]."""
        session = self.embedding
        if session is None:
            raise LocalProtocolError("only the holder of layer 0 embeds")
        (hidden,) = session.run(tokens.astype(np.int64))
        return hidden

    def step(self, layer: int, parts: Sequence[Rows]) -> TrunkStep:
        """Attention and router of one layer over the rows of any number of requests; their caches stay as they are."""
        session = self.layers[layer]
        fresh: list[Fresh] = []
        if len(parts) == 1:
            found, runtime_s = _run(session, layer, parts, len(parts[0].hidden), fresh)
            return _trunk_step(layer, found, runtime_s, fresh)
        alike: dict[tuple[int, int], list[int]] = {}
        for index, part in enumerate(parts):
            alike.setdefault((len(part.hidden), length_class(part.cache)), []).append(index)
        outputs: list[list[F32]] = [[] for _ in parts]
        runtime_s = 0.0
        for (rows, _), members in alike.items():
            found, group_s = _run(session, layer, [parts[i] for i in members], rows, fresh)
            runtime_s += group_s
            for at, i in enumerate(members):
                outputs[i] = [output[at * rows : (at + 1) * rows] for output in found]
            if len(alike) == 1:
                return _trunk_step(layer, found, runtime_s, fresh)
        return _trunk_step(layer, [np.concatenate(part) for part in zip(*outputs, strict=True)], runtime_s, fresh)

    def score(self, hidden: F32, tokens: NDArray[np.int32]) -> tuple[F32, float]:
        """Log-probability [T - 1] of each of `tokens` [T] but the first, given [T, H]; microseconds in onnxruntime."""
        found, took_us = [], 0.0
        for at in range(0, len(tokens) - 1, CHUNK_ROWS):  # logits of all rows at once are gigabytes
            wanted = tokens[at + 1 : at + 1 + CHUNK_ROWS].astype(np.int64)
            logits, runtime_us = self._logits(hidden[at : at + len(wanted)])
            logits -= logits.max(axis=1, keepdims=True)
            picked = logits[np.arange(len(wanted)), wanted]
            found.append((picked - np.log(np.exp(logits).sum(axis=1, dtype=np.float64))).astype(np.float32))
            took_us += runtime_us
        return np.concatenate(found), took_us

    def choose(self, hidden: F32) -> tuple[list[Choice], float]:
        """The most probable token after each row of [T, H], and the microseconds inside onnxruntime."""
        logits, runtime_us = self._logits(hidden)
        return [_greedy(row) for row in logits], runtime_us

    def _logits(self, hidden: F32) -> tuple[F32, float]:
        session = self.head
        if session is None:
            raise LocalProtocolError("only the holder of the last layer has the head")
        begin_s = time.perf_counter()
        (logits,) = session.run(hidden)
        return logits, (time.perf_counter() - begin_s) * 1e6


class Trunk:
    """What is held of the trunk now; replaced as a whole. A step under way ends with what it began with."""

    def __init__(self, store: ShardStore, layers: tuple[int, ...]) -> None:
        self.model = store.manifest.model
        self.deltas = store.deltas
        self.held = open_trunk(store, layers)

    def replace(self, held: TrunkSessions) -> None:
        """From the next step on."""
        self.held = held


def _run(session: Session, layer: int, group: Sequence[Rows], rows: int, fresh: list[Fresh]) -> tuple[list[F32], float]:
    """The trunk's outputs for parts of `rows` rows each, and seconds inside onnxruntime; `fresh` grows."""
    keys, values = pasts(layer, [part.cache for part in group])
    hidden = group[0].hidden if len(group) == 1 else np.concatenate([part.hidden for part in group])
    position = np.array([range(part.start, part.start + rows) for part in group], np.int64)
    begin_s = time.perf_counter()
    *found, new_keys, new_values = session.run(hidden, keys, values, position)
    runtime_s = time.perf_counter() - begin_s
    fresh.append((group, new_keys, new_values))
    return found, runtime_s


def _trunk_step(layer: int, rows: list[F32], runtime_s: float, fresh: list[Fresh]) -> TrunkStep:
    """From the trunk's outputs; the fourth is there only where mixing weights are not the scores."""
    residual, expert_input, scores, *mixing = rows
    return TrunkStep(
        layer, residual, expert_input, scores, mixing[0] if mixing else None, runtime_s * 1e6, fresh
    )  # fmt: skip


def _greedy(row: F32) -> Choice:
    """Overwrites the logits."""
    token = int(row.argmax())
    first = float(row[token])
    row[token] = -np.inf
    margin = first - float(row.max())
    row -= np.float32(first)
    np.exp(row, out=row)
    return Choice(token, -math.log1p(float(row.sum())), margin)


def open_trunk(store: ShardStore, layers: tuple[int, ...]) -> TrunkSessions:
    """Verified sessions of these layers, with embed and head where they belong; ArtefactError if one is not."""
    last = store.manifest.model.layers - 1
    precision = store.manifest.model.trunk_precision
    for n in layers:
        shard = store.manifest.find("trunk", precision, n)
        if shard.inputs[1].shape[0] != "P":
            raise ArtefactError(
                f"{store.folder / shard.name}: its past has axes {shard.inputs[1].shape}, wanted positions first",
                "an older release built it: build the shards again: hil models build",
            )
    return TrunkSessions(
        {n: store.session("trunk", precision, n) for n in layers},
        store.session("embed", precision) if 0 in layers else None,
        store.session("head", precision) if last in layers else None,
    )
