"""The gate kernel against the bare top-k it replaces (numpy argsort of the scores)."""

from __future__ import annotations

import numpy as np

from benchmarks.median import median_us
from hil_config.wire.manifest import Routing
from hil_config.wire.plan import LayerPlan, SelectionPlan, Share
from models.serving.gate import select, select_row
from models.serving.layer_gate import compile_layer, one_fraction, row_fraction

EXPERTS, TOP_K, NODES = 64, 8, 4


def run() -> None:
    """Medians of interleaved rounds at [1, 64] and [64, 64]."""
    hosts = tuple((Share(e % NODES, 1.0), Share((e + 1) % NODES, 1.0)) for e in range(EXPERTS))
    layer = LayerPlan((0.1,) * EXPERTS, hosts, (-1,) * EXPERTS)
    plan = SelectionPlan(1, 1, 0.0, 1.0, "bench", "", 1.0, 1.0, 1, TOP_K, 0.0, tuple("abcd"), (), (layer,))
    compiled = compile_layer(plan, 0, np.ones(NODES, bool))
    rng = np.random.default_rng(0)
    for rows in (1, 64):
        scores = np.exp(rng.standard_normal((rows, EXPERTS)).astype(np.float32))
        scores /= scores.sum(axis=1, keepdims=True)

        def gated(rows: int = rows, scores: np.ndarray = scores) -> object:
            if rows == 1:
                return select_row(compiled, scores[0], Routing(TOP_K, True), one_fraction(1, 0, 0))
            return select(compiled, scores, Routing(TOP_K, True), row_fraction(1, 0, rows, 0))

        def bare(scores: np.ndarray = scores) -> object:
            order = np.argsort(-scores, axis=1)[:, :TOP_K]
            return order, np.take_along_axis(scores, order, 1)

        pairs = [(median_us(gated, 200), median_us(bare, 200)) for _ in range(9)]
        ours, baseline = (float(np.median(side)) for side in zip(*pairs, strict=True))
        print(f"gate [{rows}, {EXPERTS}]: {ours:.0f} us, bare top-k {baseline:.0f} us, ratio {ours / baseline:.2f}")
