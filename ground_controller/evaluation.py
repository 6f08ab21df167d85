"""The evaluation set as a workload: which item is scored next, and what came home."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import msgspec
from tokenizers import Tokenizer

from hil_config.wire.manifest import ModelCard
from models.evaluate import Evaluation, Item, items, longest, read_evaluation
from models.locate import reference_checkpoint

FIRST_REQUEST = 1 << 24
"""Request numbers from here on score evaluation items; those below generate."""


class TextScored(msgspec.Struct, frozen=True):
    """Log-probabilities of an item's tokens but the first, as the nodes gave them. `since_us`: since it began."""

    request: int
    attempt: int
    logprobs: tuple[float, ...]
    degraded: tuple[str, ...]
    since_us: float


class EvaluationSet(msgspec.Struct, frozen=True):
    """What is scored in a run, in the order it is."""

    path: str
    sha256: str
    evaluation: Evaluation
    items: tuple[Item, ...]

    def item(self, request: int) -> Item:
        return self.items[request - FIRST_REQUEST]


def evaluation_path(name: str) -> Path | None:
    """`none`, `reference`, or a file."""
    if name == "none":
        return None
    return reference_checkpoint() / "evaluation.json" if name == "reference" else Path(name)


def load_evaluation(path: Path, tokenizer: Tokenizer, card: ModelCard, seed: int) -> EvaluationSet:
    """The set, shuffled by the seed, a question's choices one after the other: a run cut short scores a fair part."""
    evaluation = read_evaluation(path)
    groups: dict[object, list[Item]] = {}
    for item in items(evaluation, tokenizer, card.begin, longest(card)):
        groups.setdefault(item.question if item.question >= 0 else ("text", item.id), []).append(item)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return EvaluationSet(str(path), digest, evaluation, tuple(item for group in order for item in group))
