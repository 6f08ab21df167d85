"""The prompts of a workload: from a file, in a seeded order, cut or joined to the length that is asked."""

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
        room: int, prompt_tokens: int | None = None,
    ) -> None:  # fmt: skip
        self._tokenizer = tokenizer
        self._end_of_text = end_of_text
        start = seed % len(prompts)
        ordered = prompts[start:] + prompts[:start]
        endless = itertools.cycle(ordered)
        self._source = iter(endless if limit is None else itertools.islice(endless, limit))
        self._room = room
        self._prompts = ordered
        self._prompt_tokens = prompt_tokens
        self._taken = 0

    def next(self, prompt_tokens: int | None = None) -> Ready | None:
        """The next prompt, its last `room` tokens if it is longer; None when there are no more.

        Args:
            prompt_tokens: exactly so many (at most `room`), the end-of-text token before them included: a longer
                prompt is cut, a shorter one goes on with the prompts after it. None: the workload's own length.
        """
        prompt = next(self._source, None)
        if prompt is None:
            return None
        self._taken += 1
        wanted = prompt_tokens or self._prompt_tokens
        tokens = self._encoded(prompt.text)
        if wanted is None:
            # The model was trained on texts that follow an end-of-text token.
            return Ready(prompt, [self._end_of_text, *tokens[-self._room + 1 :]])
        further = itertools.cycle(self._prompts[self._taken % len(self._prompts) :] + self._prompts)
        while len(tokens) < min(wanted, self._room) - 1:
            tokens += self._encoded(next(further).text)
        tokens = tokens[: min(wanted, self._room) - 1]
        return Ready(Prompt(prompt.domain, str(self._tokenizer.decode(tokens))), [self._end_of_text, *tokens])

    def _encoded(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
