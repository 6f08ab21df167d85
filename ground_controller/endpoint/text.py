"""Tokens to text, as they come."""

from __future__ import annotations

from tokenizers import Tokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Says the text of tokens as soon as it is certain: a character may need several tokens."""

    def __init__(self, tokenizer: Tokenizer, end_of_text: int) -> None:
        self._tokenizer = tokenizer
        self._end_of_text = end_of_text
        self._tokens: list[int] = []
        self._said = ""

    def push(self, token: int) -> str:
        """The text that has become certain with `token`."""
        if token != self._end_of_text:
            self._tokens.append(token)
        text = str(self._tokenizer.decode(self._tokens))
        return "" if text.endswith(REPLACEMENT) else self._say(text)

    def rest(self) -> str:
        """What is left when no more tokens come: bytes that make no character stay replaced."""
        return self._say(str(self._tokenizer.decode(self._tokens)))

    def _say(self, text: str) -> str:
        new, self._said = text[len(self._said) :], text
        return new
