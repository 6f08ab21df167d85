"""The shipped model: it is complete, small, says what training.json says, and int8 costs next to nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil_config.wire.manifest import read_manifest
from models.heldout import heldout_perplexity, read_heldout, read_tokenizer
from models.importance import Counter
from models.locate import reference_checkpoint
from models.oracle import Oracle

INT8_TOLERANCE = 0.01
"""Relative. Measured: see perplexity_excerpts in training.json; the differences there are far smaller."""

DOMAINS = {"scripture", "glossary", "source", "manual", "telemetry"}


@pytest.fixture(scope="module")
def training() -> dict[str, Any]:
    values: dict[str, Any] = json.loads((reference_checkpoint() / "training.json").read_text())
    return values


@pytest.fixture(scope="module")
def exact(reference_shards: Path) -> dict[str, float]:
    return heldout_perplexity(Oracle(reference_shards, "fp32"), reference_checkpoint())


def test_the_checkpoint_is_complete_and_small() -> None:
    files = {path.name: path.stat().st_size for path in reference_checkpoint().iterdir()}
    assert set(files) == {
        "config.json", "model.safetensors", "tokenizer.json", "heldout.json", "prompts.json", "training.json",
        "card.json", "calibration.json", "evaluation.json", "importance.json",
    }  # fmt: skip
    assert sum(files.values()) < 5_000_000


def test_int8_experts_keep_the_perplexity(reference_shards: Path, exact: dict[str, float]) -> None:
    rounded = heldout_perplexity(Oracle(reference_shards, "int8"), reference_checkpoint())
    assert set(rounded) == DOMAINS
    for domain, value in rounded.items():
        assert value == pytest.approx(exact[domain], rel=INT8_TOLERANCE)


def test_heldout_perplexity_is_what_training_measured(exact: dict[str, float], training: dict[str, Any]) -> None:
    for domain, value in training["perplexity_excerpts"]["heldout_json_fp32"].items():
        assert exact[domain] == pytest.approx(value, rel=1e-3)


def test_the_model_learned_every_domain(training: dict[str, Any], reference_shards: Path) -> None:
    card = read_manifest(reference_shards).model
    assert card.perplexity == training["perplexity"]
    for domain in DOMAINS:
        assert card.perplexity[domain] < training["perplexity_unigram"][domain] / 5


def test_no_expert_is_dead_and_shares_add_up(reference_shards: Path) -> None:
    card = read_manifest(reference_shards).model
    activation, importance = np.array(card.activation), np.array(card.importance)
    np.testing.assert_allclose(activation.sum(axis=1), card.routing.top_k, atol=1e-4)
    assert activation.min() > 0.01
    assert importance.min() > 0


def test_prompts_are_short_heldout_beginnings() -> None:
    prompts = json.loads((reference_checkpoint() / "prompts.json").read_text())
    tokenizer = read_tokenizer(reference_checkpoint())
    assert {prompt["domain"] for prompt in prompts} == DOMAINS
    assert len({prompt["text"] for prompt in prompts}) == len(prompts) >= 24
    for prompt in prompts:
        assert 12 <= len(tokenizer.encode(prompt["text"]).ids) <= 40


def test_texts_survive_the_tokenizer_and_fit_the_context(reference_shards: Path) -> None:
    tokenizer, card = read_tokenizer(reference_checkpoint()), read_manifest(reference_shards).model
    assert tokenizer.get_vocab_size() == card.vocabulary
    assert tokenizer.id_to_token(card.end_of_text) == "<|endoftext|>"
    for texts in read_heldout(reference_checkpoint()).values():
        for text in texts:
            tokens = tokenizer.encode(text).ids
            assert tokenizer.decode(tokens) == text
            assert len(tokens) < card.context


def test_cached_decoding_equals_prefill_on_real_text(reference_shards: Path) -> None:
    """int8 is looser: the trunk's last-digit differences can tip the rounding of an expert's input."""
    tokens = (
        read_tokenizer(reference_checkpoint()).encode(read_heldout(reference_checkpoint())["telemetry"][0]).ids[:48]
    )
    for precision, tolerance in (("fp32", 1e-4), ("int8", 0.02)):
        oracle = Oracle(reference_shards, precision)  # type: ignore[arg-type]
        cache = oracle.new_cache()
        rows = np.stack([oracle.decode(cache, token) for token in tokens])
        np.testing.assert_allclose(rows, oracle.prefill(tokens)[1], rtol=0, atol=tolerance)


def test_generated_text_is_most_like_its_own_domain(reference_shards: Path) -> None:
    """Continuations of the shipped prompts, told apart by the token frequencies of the held-out texts."""
    checkpoint, oracle = reference_checkpoint(), Oracle(reference_shards, "int8")
    tokenizer = read_tokenizer(checkpoint)
    likeness = {}
    for domain, texts in read_heldout(checkpoint).items():
        tokens = [token for text in texts for token in tokenizer.encode(text).ids]
        counts = np.bincount(tokens, minlength=oracle.card.vocabulary) + 0.1
        likeness[domain] = np.log(counts / counts.sum())
    prompts = json.loads((checkpoint / "prompts.json").read_text())
    right = 0
    for prompt in prompts:
        new, margins = oracle.generate_greedy(tokenizer.encode(prompt["text"]).ids, 48)
        assert len(new) == len(margins) == 48
        right += max(likeness, key=lambda domain: likeness[domain][new].sum()) == prompt["domain"]
    assert right >= 0.8 * len(prompts)


def test_a_lost_expert_is_left_out_and_costs_something(reference_shards: Path) -> None:
    oracle = Oracle(reference_shards, "fp32")
    tokens = read_tokenizer(reference_checkpoint()).encode(read_heldout(reference_checkpoint())["source"][0]).ids
    whole = oracle.nll(tokens)
    layer_zero = np.array(oracle.card.importance[0])
    oracle.lost = frozenset({(0, int(layer_zero.argmax()))})
    assert oracle.nll(tokens) > whole + 0.01
    oracle.lost = frozenset()
    assert oracle.nll(tokens) == whole


def test_calibration_counts_every_pick_once(reference_shards: Path) -> None:
    card = read_manifest(reference_shards).model
    counter = Counter(card.layers, card.experts)
    oracle = Oracle(reference_shards, "fp32", counter.observe)
    oracle.prefill(list(range(300, 340)))
    statistics = counter.statistics()
    np.testing.assert_array_equal(counter.tokens, [40] * card.layers)
    np.testing.assert_allclose(np.sum(statistics.activation, axis=1), 2, atol=1e-4)
    assert (np.array(statistics.importance)[np.array(statistics.activation) == 0] == 0).all()


def test_a_uniform_guess_has_the_vocabularys_perplexity(reference_shards: Path, exact: dict[str, float]) -> None:
    """Scale check of nll: no domain is worse than guessing, and telemetry is by far the easiest."""
    assert all(1 < value < 2048 for value in exact.values())
    assert min(exact, key=lambda domain: exact[domain]) == "telemetry"
    assert math.log(exact["telemetry"]) < 1.5
