"""The shards compute what the torch model computes, however the tokens are cut into calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hil_config.wire.manifest import Routing
from models.architecture import Architecture
from models.build import build_shards
from models.oracle import Oracle, route

torch = pytest.importorskip("torch", reason="the parity yardstick is the torch model (build extra)")

from models.reference.torch_model import Layer, TorchModel  # noqa: E402 - only after torch is known to be there

LOGIT_TOLERANCE = 1e-4
MARGIN = 1e-3
NEW_TOKENS = 48


@pytest.fixture(scope="module", params=[3, 5])
def pair(
    request: pytest.FixtureRequest, architecture: Architecture, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TorchModel, Oracle]:
    """A seeded random torch model and the oracle over fp32 shards built from its saved checkpoint."""
    folder = tmp_path_factory.mktemp("parity")
    model = TorchModel.random(architecture, request.param)
    model.save(folder / "checkpoint", "random")
    build_shards(folder / "checkpoint", folder / "shards", ("fp32",))
    return model, Oracle(folder / "shards", "fp32")


def prompt(length: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 160, length)]


def torch_logits(model: TorchModel, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        return np.array(model(torch.tensor(tokens)).numpy())


@pytest.mark.parametrize("length", [1, 2, 17, 100])
def test_prefill_logits_match_torch(pair: tuple[TorchModel, Oracle], length: int) -> None:
    model, oracle = pair
    tokens = prompt(length)
    np.testing.assert_allclose(oracle.prefill(tokens)[1], torch_logits(model, tokens), rtol=0, atol=LOGIT_TOLERANCE)


def test_greedy_tokens_match_torch_wherever_the_margin_decides(pair: tuple[TorchModel, Oracle]) -> None:
    """Generated freely up to the first near-tie, after which either continuation is right; then step by step
    along torch's own tokens, so that every decided position is compared."""
    model, oracle = pair
    decided = 0
    for seed in range(3):
        start = prompt(8, seed)
        wanted, margins = model.generate_greedy(start, NEW_TOKENS)
        free, _ = oracle.generate_greedy(start, NEW_TOKENS)
        tie = next((index for index, margin in enumerate(margins) if margin <= MARGIN), NEW_TOKENS)
        assert free[:tie] == wanted[:tie]
        cache, logits = oracle.prefill(start)
        row = logits[-1]
        for token, margin in zip(wanted, margins, strict=True):
            if margin > MARGIN:
                assert int(row.argmax()) == token
                decided += 1
            row = oracle.decode(cache, token)
    assert decided >= 3 * NEW_TOKENS - 9, "too many near-ties for the test to say anything"


def test_greedy_text_of_the_random_model_varies(pair: tuple[TorchModel, Oracle]) -> None:
    """A model that repeats one token would pass every other test here."""
    assert len(set(pair[1].generate_greedy(prompt(8), NEW_TOKENS)[0])) >= 4


@pytest.mark.parametrize("chunks", [[1] * 24, [5, 1, 12, 6], [23, 1]])
def test_cached_decoding_equals_one_prefill(pair: tuple[TorchModel, Oracle], chunks: list[int]) -> None:
    oracle, tokens = pair[1], prompt(24, 9)
    whole = oracle.prefill(tokens)[1]
    cache, rows, start = oracle.new_cache(), [], 0
    for size in chunks:
        rows.append(oracle.extend(cache, tokens[start : start + size]))
        start += size
    assert cache.length == 24
    np.testing.assert_allclose(np.concatenate(rows), whole, rtol=0, atol=LOGIT_TOLERANCE)


def test_a_later_token_does_not_change_earlier_logits(pair: tuple[TorchModel, Oracle]) -> None:
    oracle, tokens = pair[1], prompt(20, 4)
    changed = [*tokens[:-1], (tokens[-1] + 1) % 160]
    first, second = oracle.prefill(tokens)[1], oracle.prefill(changed)[1]
    np.testing.assert_allclose(first[:-1], second[:-1], rtol=0, atol=LOGIT_TOLERANCE)
    assert np.abs(first[-1] - second[-1]).max() > 100 * LOGIT_TOLERANCE


def test_a_quantised_checkpoint_reads_the_same_in_torch_and_in_the_build(
    architecture: Architecture, tmp_path: Path
) -> None:
    TorchModel.random(architecture, 3).save(tmp_path / "checkpoint", "random", quantised=True)
    build_shards(tmp_path / "checkpoint", tmp_path / "shards", ("fp32",))
    tokens = prompt(30)
    wanted = torch_logits(TorchModel.from_checkpoint(tmp_path / "checkpoint"), tokens)
    got = Oracle(tmp_path / "shards", "fp32").prefill(tokens)[1]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=LOGIT_TOLERANCE)


def test_routing_picks_the_torch_models_experts(architecture: Architecture) -> None:
    layer = TorchModel.random(architecture, 3).blocks[1]
    assert isinstance(layer, Layer)
    rows = torch.randn(50, architecture.hidden, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        scores, picks, weights = layer.route(rows)
    got_picks, got_weights = route(scores.numpy(), Routing(architecture.top_k, architecture.normalise_top_k))
    np.testing.assert_array_equal(got_picks, picks.numpy())
    np.testing.assert_allclose(got_weights, weights.numpy(), rtol=0, atol=1e-6)
