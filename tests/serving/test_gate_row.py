"""A row alone takes a path of its own through the gate: it must find what the row finds among others, to the bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hil_config.wire.manifest import Routing
from hil_config.wire.plan import LayerPlan, SelectionPlan, Share
from models.serving.gate import select
from models.serving.layer_gate import compile_layer, row_fraction

E = 24
ROWS = 5


@st.composite
def cases(draw: st.DrawFn) -> tuple[SelectionPlan, Routing, np.ndarray, np.ndarray, np.ndarray | None]:
    """A plan of one layer, a router's rule, who is alive, scores [ROWS, E] and mixing weights of their own."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    own = draw(st.booleans())  # the model's own picks, nothing else: what a decoded token mostly is
    replicas = draw(st.integers(int(own), 3))
    hosts = tuple(
        tuple(Share((e + c) % 4, float(rng.uniform(0.5, 3.0))) for c in range(min(replicas, 1 + e % 3)))
        for e in range(E)
    )
    priced, factored, substituted = (draw(st.booleans()) and not own for _ in range(3))
    price = tuple(float(p) for p in rng.uniform(0.0, 0.1, E)) if priced else (0.0,) * E
    substitute = tuple(int(s) for s in np.where(rng.uniform(size=E) < 0.3, rng.integers(0, E, E), -1))
    factor = tuple(float(f) for f in rng.uniform(0.5, 1.5, E)) if factored else ()
    layer = LayerPlan(price, hosts, substitute if substituted else (-1,) * E, factor)
    k_max = draw(st.integers(1, E))
    plan = SelectionPlan(
        1, 1, 0.0, 1.0, "test", "", draw(st.sampled_from([1.0] if own else [1.0, 0.7])),
        draw(st.sampled_from([1.0] if own else [1.0, 0.9, 0.4])), k_max if own else draw(st.integers(0, k_max)), k_max,
        draw(st.sampled_from([-1e9, 0.01, 0.05])), tuple("abcd"), (), (layer,),
    )  # fmt: skip
    separate = draw(st.booleans()) and not own
    always = draw(st.integers(0, 2)) if separate else 0
    top_k = max(always + 1, k_max) if own else draw(st.integers(always + 1, 12))
    routing = Routing(top_k, draw(st.booleans()) and not separate, separate, always)
    scores = np.exp(rng.standard_normal((ROWS, E)).astype(np.float32))
    scores /= scores.sum(axis=1, keepdims=True)
    if draw(st.booleans()):
        scores = np.round(scores, 2)  # equal scores: the order must be the same
    alive = np.array([own or draw(st.booleans()) for _ in range(4)])
    mixing = rng.uniform(0.01, 1.0, (ROWS, E)).astype(np.float32) if separate else None
    return plan, routing, alive, np.asarray(scores, np.float32), mixing


@given(cases(), st.integers(0, 1 << 40), st.integers(0, 5000))
def test_a_row_alone_finds_what_it_finds_among_others(
    case: tuple[SelectionPlan, Routing, np.ndarray, np.ndarray, np.ndarray | None], request: int, start: int
) -> None:
    plan, routing, alive, scores, mixing = case
    gate = compile_layer(plan, 0, alive)
    whole = select(gate, scores, routing, row_fraction(request, start, ROWS, 0), mixing)
    for row in range(ROWS):
        fraction = row_fraction(request, start + row, 1, 0)
        assert fraction.tobytes() == row_fraction(request, start, ROWS, 0)[row : row + 1].tobytes()
        one = slice(row, row + 1)
        alone = select(gate, scores[one], routing, fraction, None if mixing is None else mixing[one])
        for field in whole._fields:
            found, wanted = np.asarray(getattr(alone, field)), np.asarray(getattr(whole.row(row), field))
            assert found.dtype == wanted.dtype and found.shape == wanted.shape, field
            assert found.tobytes() == wanted.tobytes(), (field, found, wanted)
