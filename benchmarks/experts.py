"""Experts: time by precision and rows against fp32 and against reading their bytes; grouped against one session each.

One thread, processor time of the calling thread, 10th percentile. Each call takes the next of several copies, so that
weights come from as far away as they would on a board that holds many. The bound is the stored bytes over the read
bandwidth measured on a buffer as large as all copies; what stays fp16 on disk is computed as fp32 here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort

from hil_config.wire.manifest import ExpertFunction, Precision, Tensor
from models.checkpoint import ExpertWeights
from models.describe import FeedForward
from models.export_onnx import feed_forward
from models.graph import Graph
from models.serving.group import group_graph, stack
from node_agent.power_modes.duty import DutyLimit
from node_agent.shards.groups import ExpertGroup, grouping_unsupported
from node_agent.shards.sessions import session_options

SHAPES = {"reference 128 x 128": (128, 128), "256 x 512": (256, 512), "OLMoE 2048 x 1024": (2048, 1024)}
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")
ROWS = (1, 4, 16, 64)
COPIES_BYTES = 96 << 20
MOST_COPIES = 16
GROUP = 8
PICKS = 2


def shard(hidden: int, width: int, precision: Precision, seed: int) -> tuple[bytes, dict[str, Any]]:
    """Graph and weights of a random expert, as a build makes them."""
    rng = np.random.default_rng(seed)
    shapes = ((width, hidden), (width, hidden), (hidden, width))
    parts = [rng.standard_normal(shape).astype(np.float32) * 0.05 for shape in shapes]
    g = Graph()
    feed_forward(g, "x", ExpertWeights(*parts), FeedForward(width), precision, "", "y", deltas=True)
    data = g.model("expert", (Tensor("x", "float32", ("R", hidden)),), (Tensor("y", "float32", ("R", hidden)),))
    return data, g.weights


def open_copy(graph: bytes, weights: dict[str, Any]) -> tuple[ort.InferenceSession, list[ort.OrtValue]]:
    held = [ort.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
    options = session_options()
    options.add_external_initializers(list(weights), held)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"]), held


def p10_us(calls: list[Callable[[], Any]], budget_s: float = 0.8) -> float:
    """10th percentile of one call, taking turns through `calls`, in microseconds of this thread's processor time."""
    for call in calls:
        call()
    taken: list[float] = []
    end = time.monotonic() + budget_s
    while len(taken) < 30 or time.monotonic() < end:
        call = calls[len(taken) % len(calls)]
        start = time.thread_time()
        call()
        taken.append(time.thread_time() - start)
    return float(np.percentile(taken, 10)) * 1e6


def read_gb_s(size: int) -> float:
    """Bandwidth at which this thread reads a buffer of `size` bytes, in GB/s."""
    words = np.ones(size // 8, np.uint64)
    seconds = p10_us([lambda: np.bitwise_or.reduce(words)], 0.3) / 1e6
    return size / seconds / 1e9


def by_precision(name: str, hidden: int, width: int) -> None:
    """A line per precision: microseconds and the ratio to fp32 for each number of rows, and the byte bound."""
    rng = np.random.default_rng(0)
    base: dict[int, float] = {}
    for precision in PRECISIONS:
        graph, weights = shard(hidden, width, precision, 1)
        size = sum(value.nbytes for value in weights.values())
        copies = max(1, min(MOST_COPIES, COPIES_BYTES // size))
        opened = [open_copy(graph, {n: v.copy() for n, v in weights.items()}) for _ in range(copies)]
        cells, alone_us = [], 0.0
        bound_us = size / read_gb_s(size * copies) / 1e3
        for rows in ROWS:
            x = rng.standard_normal((rows, hidden)).astype(np.float32)
            us = p10_us([partial(session.run, None, {"x": x}) for session, _ in opened])
            base.setdefault(rows, us)
            cells.append(f"{rows} rows {us:8.0f} us = {us / base[rows]:4.2f} x fp32")
            alone_us = us if rows == 1 else alone_us
        bound = f"1 row = {alone_us / bound_us:.1f} x its bytes' time"
        print(f"{name} {precision:5} {size / 1e6:6.2f} MB: {', '.join(cells)}; {bound}")


Picked = tuple[Any, Any, Any]


def picked(rows: int, hidden: int) -> Picked:
    """Rows, and for each two experts of the group with their weights."""
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, hidden)).astype(np.float32)
    picks = np.stack([rng.permutation(GROUP)[:PICKS] for _ in range(rows)]).astype(np.int16)
    return x, picks, rng.random(picks.shape).astype(np.float32)


def one_each(sessions: list[ort.InferenceSession], x: Any, picks: Any, weights: Any) -> Any:
    """The partial sum with a session an expert, as a node computes it."""
    total = np.zeros_like(x)
    for expert in set(picks.ravel().tolist()):
        mine = picks == expert
        used = np.nonzero(mine.any(axis=1))[0]
        (y,) = sessions[expert].run(None, {"x": x[used]})
        total[used] += y * np.where(mine[used], weights[used], 0).sum(axis=1, dtype=np.float32)[:, None]
    return total


def grouped(name: str, hidden: int, width: int) -> None:
    """One session an expert against one QMoE session for all eight, picks spread evenly."""
    for precision in ("int8", "int4"):
        shards = [shard(hidden, width, precision, seed) for seed in range(GROUP)]
        opened = [open_copy(*one) for one in shards]
        sessions = [session for session, _ in opened]
        stacked = stack([weights for _, weights in shards])
        data = group_graph(stacked, precision, ExpertFunction())
        group = ExpertGroup(*open_copy(data, stacked), tuple(range(GROUP)), DutyLimit())
        cells = []
        for rows in (1, 8, 32):
            inputs = picked(rows, hidden)
            wanted = one_each(sessions, *inputs)
            assert np.abs(group.partial_sum(*inputs) - wanted).max() < 1e-3 * np.abs(wanted).max()
            alone_us = p10_us([partial(one_each, sessions, *inputs)])
            group_us = p10_us([partial(group.partial_sum, *inputs)])
            cells.append(f"{rows} rows {alone_us:8.0f} -> {group_us:8.0f} us = {group_us / alone_us:4.2f}")
        what = f"{GROUP} experts, {PICKS} picks a row, one session each -> grouped"
        print(f"{name} {precision:5} {what}: {', '.join(cells)}")


def run() -> None:
    print(f"onnxruntime {ort.__version__}")
    for name, (hidden, width) in SHAPES.items():
        by_precision(name, hidden, width)
        if not grouping_unsupported():
            grouped(name, hidden, width)
    if grouping_unsupported():
        print(grouping_unsupported())
