"""Texts that ship with the checkpoint: python -m models.reference.texts --corpus DIR --out models/reference/checkpoint

`calibration.json` is cut from training documents, so it shares nothing with what is evaluated. `evaluation.json` is
cut from held-out documents: running text for perplexity, and cloze questions: a beginning and four continuations of
the same length, the true one and three of other held-out documents of the domain.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from tokenizers import Tokenizer

from models.evaluate import Evaluation, Question
from models.heldout import read_tokenizer
from models.reference.corpus import DOMAINS, load_domain
from models.write_checkpoint import write_json

CALIBRATION_NAME, EVALUATION_NAME = "calibration.json", "evaluation.json"
TEXT_BYTES = 6000
TEXT_TOKENS = 224
QUESTIONS = 20
CHOICES = 4
CONTEXT_TOKENS, CHOICE_TOKENS = 32, 8
SEED = 20261125


def texts(tokenizer: Tokenizer, documents: list[str]) -> list[str]:
    """TEXT_BYTES of beginnings of documents, each of whole lines within TEXT_TOKENS."""
    out: list[str] = []
    for document in documents:
        text = ""
        for line in document.splitlines(keepends=True):
            if len(tokenizer.encode(text + line).ids) > TEXT_TOKENS:
                break
            text += line
        if text.isascii() and len(text) >= 40:
            out.append(text)
        if sum(map(len, out)) >= TEXT_BYTES:
            break
    return out


def questions(tokenizer: Tokenizer, domain: str, documents: list[str], rng: random.Random) -> list[Question]:
    """One question a document; documents too short for a beginning and a continuation are joined to longer ones."""
    pieces: list[tuple[str, str]] = []
    pool = [d for d in _joined(tokenizer, documents) if d.isascii()]
    rng.shuffle(pool)
    for text in pool:
        ids = tokenizer.encode(text).ids
        start = rng.randrange(0, max(1, min(len(ids) - CONTEXT_TOKENS - CHOICE_TOKENS, 400)))
        cut = start + CONTEXT_TOKENS
        pieces.append((tokenizer.decode(ids[start:cut]), tokenizer.decode(ids[cut : cut + CHOICE_TOKENS])))
        if len(pieces) >= QUESTIONS * 2:
            break
    out = []
    for index, (context, truth) in enumerate(pieces[:QUESTIONS]):
        others = [choice for i, (_, choice) in enumerate(pieces) if i != index and choice != truth]
        choices = rng.sample(sorted(set(others)), CHOICES - 1)
        answer = rng.randrange(CHOICES)
        choices.insert(answer, truth)
        out.append(Question(domain, context, tuple(choices), answer))
    return out


def _joined(tokenizer: Tokenizer, documents: list[str]) -> list[str]:
    out, text = [], ""
    for document in documents:
        text += document
        if len(tokenizer.encode(text).ids) >= CONTEXT_TOKENS + CHOICE_TOKENS:
            out.append(text[:4000])
            text = ""
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut calibration and evaluation texts from the corpus.")
    parser.add_argument("--corpus", type=Path, required=True, help="folder with the unpacked Debian packages")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder with tokenizer.json")
    arguments = parser.parse_args()
    tokenizer, rng = read_tokenizer(arguments.out), random.Random(SEED)
    calibration, running, asked = {}, {}, []
    for domain in DOMAINS:
        train, heldout = load_domain(domain, arguments.corpus)
        calibration[domain] = texts(tokenizer, train)
        running[domain] = tuple(texts(tokenizer, heldout))
        asked += questions(tokenizer, domain, heldout, rng)
    write_json(arguments.out / CALIBRATION_NAME, calibration)
    write_json(arguments.out / EVALUATION_NAME, Evaluation(running, tuple(asked)).plain())


if __name__ == "__main__":
    main()
