"""How far the shards of a folder are from the original model, per precision of the experts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hil_config.errors import DataFileError, UsageError
from hil_config.wire.manifest import ModelCard, Precision, read_manifest
from models.checkpoint import read_checkpoint
from models.heldout import HELDOUT_NAME, read_heldout, read_tokenizer
from models.oracle import Oracle
from models.original import Original

IntArray = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
RANDOM_TEXTS = 4


@dataclass(frozen=True)
class Parity:
    """One precision against the original, over all positions of all texts.

    `max_difference` and `mean_difference` of logits; `same_top`: share of positions with the same most probable
    token; `kl` mean Kullback-Leibler divergence in nats; perplexities over the same tokens.
    """

    precision: str
    max_difference: float
    mean_difference: float
    same_top: float
    kl: float
    perplexity: float
    original_perplexity: float
    tokens: int


def sample_texts(checkpoint: Path, card: ModelCard, most: int) -> tuple[list[IntArray], str]:
    """Token sequences of `most` tokens in all, and where they are from: held-out texts, else seeded random tokens.

    None is longer than the context, beyond which neither side means anything."""
    if (checkpoint / HELDOUT_NAME).exists():
        tokenizer, texts = read_tokenizer(checkpoint), read_heldout(checkpoint)
        share = max(2, min(most // sum(map(len, texts.values())), card.context))
        encoded = [tokenizer.encode(text).ids[: share - 1] for domain in texts.values() for text in domain]
        return [np.array([card.begin, *ids], dtype=np.int64) for ids in encoded], "held-out texts"
    rng = np.random.default_rng(0)
    length = max(2, min(most // RANDOM_TEXTS, card.context))
    return [rng.integers(0, card.vocabulary, length) for _ in range(most // length)], "random tokens"


def compare(
    folder: Path, checkpoint: Path, most: int = 1024, progress: Callable[[int, int, str], None] | None = None
) -> tuple[list[Parity], str]:
    """A row for each expert precision in `folder`, and where the tokens are from."""
    manifest = read_manifest(folder)
    card = manifest.model
    present = {shard.precision for shard in manifest.shards if shard.kind == "expert"}
    precisions: list[Precision] = [p for p in ("fp32", "fp16", "int8", "int4") if p in present]
    if most < 8:
        raise UsageError(f"tokens: got {most}, wanted at least 8", "give more tokens")
    vocabulary = read_checkpoint(checkpoint).description.vocabulary
    if vocabulary != card.vocabulary:
        raise DataFileError(
            f"{checkpoint}: vocabulary {vocabulary}, the shards in {folder} have {card.vocabulary}",
            "compare with the checkpoint they were built from",
        )
    texts, source = sample_texts(checkpoint, card, most)
    original = Original(checkpoint)
    wanted = [original.logits(text).astype(np.float64) for text in texts]
    rows = []
    for done, precision in enumerate(precisions, start=1):
        oracle = Oracle(folder, precision)
        got = [oracle.prefill([int(t) for t in text])[1].astype(np.float64) for text in texts]
        rows.append(_row(precision, texts, got, wanted))
        if progress is not None:
            progress(done, len(precisions), precision)
    return rows, source


def _row(precision: str, texts: Sequence[IntArray], got: Sequence[F64], wanted: Sequence[F64]) -> Parity:
    differences = np.concatenate([np.abs(g - w).ravel() for g, w in zip(got, wanted, strict=True)])
    same = np.concatenate([g.argmax(axis=1) == w.argmax(axis=1) for g, w in zip(got, wanted, strict=True)])
    ours, theirs = [_log_softmax(g) for g in got], [_log_softmax(w) for w in wanted]
    kl = np.concatenate([(np.exp(w) * (w - g)).sum(axis=1) for g, w in zip(ours, theirs, strict=True)])
    return Parity(
        precision, float(differences.max()), float(differences.mean()), float(same.mean()), float(kl.mean()),
        _perplexity(texts, ours), _perplexity(texts, theirs), sum(len(text) for text in texts),
    )  # fmt: skip


def _log_softmax(logits: F64) -> F64:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _perplexity(texts: Sequence[IntArray], log_probability: Sequence[F64]) -> float:
    picked = [p[np.arange(len(t) - 1), t[1:]] for t, p in zip(texts, log_probability, strict=True)]
    return math.exp(-float(np.concatenate(picked).mean()))
