"""The evaluation set, and what log-probabilities say of a model: perplexity by domain and cloze accuracy.

Pure: whoever runs the model (one process, or nodes over links) brings log-probabilities and gets the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from hil_config.errors import DataFileError
from hil_config.wire.frames import most_rows
from hil_config.wire.manifest import ModelCard


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of `choices` continues `context`? `answer` is an index."""

    domain: str
    context: str
    choices: tuple[str, ...]
    answer: int


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Running text by domain, and questions."""

    texts: dict[str, tuple[str, ...]]
    cloze: tuple[Question, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON writes it."""
        return {"texts": self.texts, "cloze": [msgspec.structs.asdict(question) for question in self.cloze]}


class Item(NamedTuple):
    """One sequence to score. `first`: index of the first token that counts; `question` -1 for running text."""

    id: int
    domain: str
    tokens: tuple[int, ...]
    first: int
    question: int
    choice: int


class Marks(NamedTuple):
    """What came of an evaluation. `accuracy` is None without questions; `questions`, `tokens`: how many counted."""

    nats: dict[str, float]
    perplexity: dict[str, float]
    accuracy: dict[str, float]
    tokens: int
    questions: int


def read_evaluation(path: Path) -> Evaluation:
    """DataFileError where the file is not one."""
    hint = 'wanted {"texts": {"domain": ["..."]}, "cloze": [{"domain", "context", "choices", "answer"}]}'
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}", hint) from error
    except ValueError as error:
        raise DataFileError(f"{path}: {error}", hint) from error
    if not found.texts or not all(texts and all(texts) for texts in found.texts.values()):
        raise DataFileError(f"{path}: texts: a domain without text", hint)
    for index, question in enumerate(found.cloze):
        good = len(question.choices) >= 2 and all(question.choices) and question.context
        if not good or not 0 <= question.answer < len(question.choices):
            raise DataFileError(f"{path}: cloze[{index}]: wanted a context, choices, and the index of one", hint)
    return found


def longest(card: ModelCard) -> int:
    """Tokens of a sequence to score: nodes score it whole, so it must fit into one frame."""
    return min(card.context, most_rows(card.hidden))


def items(evaluation: Evaluation, tokenizer: Tokenizer, end_of_text: int, context: int) -> tuple[Item, ...]:
    """Everything to score, each after an end-of-text token and cut to the model's context from its end."""
    out: list[Item] = []

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    for domain, texts in evaluation.texts.items():
        for text in texts:
            out.append(Item(len(out), domain, (end_of_text, *encode(text)[: context - 1]), 1, -1, 0))
    for number, question in enumerate(evaluation.cloze):
        head = encode(question.context)
        for choice, text in enumerate(question.choices):
            tail = encode(text)[: context // 2]
            kept = head[-(context - 1 - len(tail)) :]
            out.append(Item(len(out), question.domain, (end_of_text, *kept, *tail), 1 + len(kept), number, choice))
    return tuple(item for item in out if len(item.tokens) > item.first)


def marks(evaluation: Evaluation, done: Sequence[tuple[Item, Sequence[float]]]) -> Marks:
    """From scored items: `logprobs[i]` belongs to `tokens[i + 1]`.

    A question counts only when all its choices were scored; the choice with the highest mean log-probability is the
    answer given.
    """
    total: dict[str, float] = {}
    count: dict[str, int] = {}
    given: dict[int, dict[int, float]] = {}
    for item, logprobs in done:
        scored = logprobs[item.first - 1 :]
        if item.question < 0:
            total[item.domain] = total.get(item.domain, 0.0) - sum(scored)
            count[item.domain] = count.get(item.domain, 0) + len(scored)
        else:
            given.setdefault(item.question, {})[item.choice] = sum(scored) / len(scored)
    right: dict[str, list[bool]] = {}
    for number, by_choice in given.items():
        question = evaluation.cloze[number]
        if len(by_choice) == len(question.choices):
            best = max(sorted(by_choice), key=lambda choice: by_choice[choice])
            right.setdefault(question.domain, []).append(best == question.answer)
    nats = {domain: total[domain] / count[domain] for domain in total}
    return Marks(
        nats, {domain: math.exp(value) for domain, value in nats.items()},
        {domain: sum(values) / len(values) for domain, values in right.items()},
        sum(count.values()), sum(map(len, right.values())),
    )  # fmt: skip


def log_probabilities(logits: npt.NDArray[np.float32], tokens: Sequence[int]) -> list[float]:
    """Log-probability of each of `tokens` [T] but the first, from logits [T - 1, V] of those before it."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    picked = shifted[np.arange(len(shifted)), np.array(tokens[1:], dtype=np.int64)]
    return [float(value) for value in picked - np.log(np.exp(shifted).sum(axis=1))]


def overall(marks: Marks) -> tuple[float, float | None]:
    """Mean nats a token over domains, and mean accuracy over domains; None without questions."""
    accuracy = sum(marks.accuracy.values()) / len(marks.accuracy) if marks.accuracy else None
    return sum(marks.nats.values()) / len(marks.nats), accuracy
