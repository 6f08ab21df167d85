"""The workload: prompts from a file, a fixed number of generations at the same time (closed loop)."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import msgspec
from tokenizers import Tokenizer

from hil_config.errors import DataFileError


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt and the domain it is from."""

    domain: str
    text: str


class Ready(NamedTuple):
    """A prompt as token ids."""

    prompt: Prompt
    tokens: list[int]


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Prompts of a JSON list of {domain, text}; DataFileError says where it is wrong."""
    hint = 'wanted a JSON list of {"domain": "...", "text": "..."}'
    try:
        prompts = msgspec.json.decode(path.read_bytes(), type=tuple[Prompt, ...])
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}", hint) from error
    except ValueError as error:
        raise DataFileError(f"{path}: {error}", hint) from error
    if not prompts or any(not prompt.text for prompt in prompts):
        raise DataFileError(f"{path}: no prompts, or an empty one", hint)
    return prompts


class Workload:
    """Prompts in a seeded order, over and over, at most `limit` of them (None: no limit)."""

    def __init__(
        self, prompts: tuple[Prompt, ...], tokenizer: Tokenizer, end_of_text: int, seed: int, limit: int | None,
        room: int,
    ) -> None:  # fmt: skip
        self._tokenizer = tokenizer
        self._end_of_text = end_of_text
        start = seed % len(prompts)
        ordered = prompts[start:] + prompts[:start]
        endless = itertools.cycle(ordered)
        self._source = iter(endless if limit is None else itertools.islice(endless, limit))
        self._room = room

    def next(self) -> Ready | None:
        """The next prompt, its last `room` tokens if it is longer; None when there are no more."""
        prompt = next(self._source, None)
        if prompt is None:
            return None
        tokens = self._tokenizer.encode(prompt.text, add_special_tokens=False).ids
        # The model was trained on texts that follow an end-of-text token.
        return Ready(prompt, [self._end_of_text, *tokens[-self._room + 1 :]])
