"""Perplexity of a built model on the held-out texts that come with its checkpoint."""

from __future__ import annotations

import math
from pathlib import Path

from tokenizers import Tokenizer

from hil_config.errors import DataFileError
from models.config_file import read_json
from models.oracle import Oracle

HELDOUT_NAME = "heldout.json"
TOKENIZER_NAME = "tokenizer.json"


def read_tokenizer(checkpoint: Path) -> Tokenizer:
    """The checkpoint's tokenizer; DataFileError where it is missing or malformed."""
    path = checkpoint / TOKENIZER_NAME
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise DataFileError(f"{path}: not a tokenizer: {error}", "use a checkpoint that ships one") from error


def read_heldout(checkpoint: Path) -> dict[str, list[str]]:
    """Held-out texts by domain."""
    path = checkpoint / HELDOUT_NAME
    values = read_json(path)
    for domain, texts in values.items():
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise DataFileError(f"{path}: {domain}: wanted a list of texts", "each domain is a list of strings")
    return values


def heldout_perplexity(oracle: Oracle, checkpoint: Path) -> dict[str, float]:
    """exp(mean nats a token) by domain. Each text follows an end-of-text token, itself not scored."""
    tokenizer, out = read_tokenizer(checkpoint), {}
    for domain, texts in read_heldout(checkpoint).items():
        total, count = 0.0, 0
        for text in texts:
            tokens = [oracle.card.end_of_text, *tokenizer.encode(text).ids]
            total += oracle.nll(tokens) * (len(tokens) - 1)
            count += len(tokens) - 1
        out[domain] = math.exp(total / count)
    return out
