"""Perplexity of a built model on the held-out texts that come with its checkpoint."""

from __future__ import annotations

import math
from pathlib import Path

from tokenizers import Tokenizer

from hil_config.errors import DataFileError
from hil_config.wire.manifest import Manifest, ModelCard
from models.config_file import read_json
from models.locate import reference_checkpoint
from models.oracle import Oracle
from models.tensor_file import file_sha256

HELDOUT_NAME = "heldout.json"
TOKENIZER_NAME = "tokenizer.json"


def read_tokenizer(checkpoint: Path) -> Tokenizer:
    """The checkpoint's tokenizer; DataFileError where it is missing or malformed."""
    path = checkpoint / TOKENIZER_NAME
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise DataFileError(f"{path}: not a tokenizer: {error}", "use a checkpoint that ships one") from error


def tokenizer_of(folder: Path, manifest: Manifest, checkpoint: Path | None) -> Tokenizer:
    """The model's own: from `checkpoint`, by default the reference model's; DataFileError where that is another one."""
    path = (checkpoint or reference_checkpoint()) / TOKENIZER_NAME
    tokenizer, known = read_tokenizer(path.parent), manifest.tokenizer_sha256
    own = file_sha256(path) == known if known else checkpoint is not None
    if not own or tokenizer.get_vocab_size() > manifest.model.vocabulary:
        raise DataFileError(
            f"{path}: not the tokenizer of {manifest.model.name} in {folder}",
            "name the checkpoint that the shards were built from: --checkpoint FOLDER",
        )
    return tokenizer


def read_heldout(checkpoint: Path) -> dict[str, list[str]]:
    """Held-out texts by domain."""
    return read_texts(checkpoint / HELDOUT_NAME)


def read_texts(path: Path) -> dict[str, list[str]]:
    """Texts by domain; DataFileError where the file is something else, or has none."""
    hint = 'wanted {"domain": ["text", ...]}'
    try:
        values = read_json(path)
    except DataFileError as error:
        raise DataFileError(error.message, hint) from error
    if not values:
        raise DataFileError(f"{path}: got no text", hint)
    for domain, texts in values.items():
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise DataFileError(f"{path}: {domain}: wanted a list of texts", "each domain is a list of strings")
    return values


def sequences(path: Path, tokenizer: Tokenizer, card: ModelCard) -> dict[str, list[list[int]]]:
    """The texts of a file as tokens by domain, each after the token that begins them and cut to the context."""
    return {
        domain: [[card.begin, *tokenizer.encode(text).ids][: card.context] for text in texts]
        for domain, texts in read_texts(path).items()
    }


def heldout_perplexity(oracle: Oracle, checkpoint: Path) -> dict[str, float]:
    """exp(mean nats a token) by domain. Each text follows an end-of-text token, itself not scored."""
    tokenizer, out = read_tokenizer(checkpoint), {}
    for domain, texts in read_heldout(checkpoint).items():
        total, count = 0.0, 0
        for text in texts:
            tokens = [oracle.card.begin, *tokenizer.encode(text).ids]
            total += oracle.nll(tokens) * (len(tokens) - 1)
            count += len(tokens) - 1
        out[domain] = math.exp(total / count)
    return out
