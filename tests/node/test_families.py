"""Every supported family: checkpoint -> fp32 shards -> greedy generation over two nodes gives transformers' tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hil_config.wire.frames import Route, Step
from models.build import build_shards
from models.serving.gate import select
from models.serving.layer_gate import compile_layer, row_fraction
from tests.models.tiny_families import FAMILIES, save_model, torch
from tests.node.nodes import Bench

NEW_TOKENS = 32
MARGIN = 1e-4
"""Partial sums of hosts reorder additions: a token whose logit leads by less than this could differ rightly."""


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Bench]]:
    """A transformers model, and two nodes that hold its shards. Each expert is on both and rows are shared between
    them: a host that a busy machine holds up is then answered for by the other, and no pick is changed."""
    folder = tmp_path_factory.mktemp(request.param)
    model = save_model(request.param, folder / "checkpoint")
    build_shards(folder / "checkpoint", folder / "shards", ("fp32",))
    bench = Bench(folder / "shards", ("a", "b"), "fp32", copies=2, timeout_s=20.0)
    yield model, bench
    bench.close()


def yardstick(model: Any, prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Greedy tokens [B, NEW_TOKENS] of transformers with its own cache, and the lead of each over the second best."""
    tokens = torch.tensor(prompts)
    with torch.no_grad():
        out = model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=NEW_TOKENS, do_sample=False,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    best = torch.stack(out.logits, dim=1).topk(2).values
    return out.sequences[:, prompts.shape[1] :].numpy(), (best[..., 0] - best[..., 1]).numpy()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 100])
def test_two_nodes_generate_the_tokens_of_transformers(pair: tuple[Any, Bench], length: int, batch: int) -> None:
    model, bench = pair
    prompts = np.random.default_rng(length + batch).integers(1, 96, (batch, length))
    wanted, margins = yardstick(model, prompts)
    gateways = tuple(piece.nodes[0] for piece in bench.plan.gateways)
    requests = [1000 * length + 10 * batch + row for row in range(batch)]
    for number, prompt in zip(requests, prompts, strict=True):
        step = Step(number, 1, 0, NEW_TOKENS, Route(gateways, "client"), length, prompt.astype(np.int32))
        bench.send(step, gateways[0])
    assert bench.wait(lambda: bench.refusals or all(len(bench.of(n, 1)) == NEW_TOKENS for n in requests), 60.0)
    assert not bench.refusals
    assert margins.min() > MARGIN, "the seeds must leave no near-tie"
    for row, number in enumerate(requests):
        assert not any(token.degraded for token in bench.of(number, 1))
        got = [token.token for token in bench.of(number, 1)]
        assert got == wanted[row].tolist()
        assert len(set(got)) >= 4, "a model that repeats one token would prove nothing"


def test_recorded_scores_and_weights_give_the_recorded_picks_again(pair: tuple[Any, Bench]) -> None:
    """What a replay does; routers whose mixing weights are not their scores record both."""
    _, bench = pair
    bench.generate([5, 9, 2], 4, request=7)
    card = bench.manifest.model
    layers = [(e, entry) for e in bench.evidence(tokens=4) if e.request == 7 for entry in e.layers]
    assert layers
    for evidence, layer in layers:
        scores = np.frombuffer(layer.scores, "<f4").reshape(evidence.rows, card.experts)
        assert bool(layer.mixing) == card.routing.separate_weights
        mixing = np.frombuffer(layer.mixing, "<f4").reshape(scores.shape) if layer.mixing else None
        gate = compile_layer(bench.plan, layer.layer, np.frombuffer(layer.live, np.uint8).astype(bool))
        fraction = row_fraction(evidence.request, evidence.start, evidence.rows, layer.layer)
        picks = select(gate, scores, card.routing, fraction, mixing)
        assert picks.experts.tobytes() == layer.picks and picks.hosts.tobytes() == layer.hosts
        if card.routing.always_on:
            assert (picks.experts[:, 0] == card.experts - 1).all()
