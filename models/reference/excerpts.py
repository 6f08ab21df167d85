"""Choose the short held-out texts and prompts that ship with the checkpoint."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from tokenizers import Tokenizer

from models.reference.corpus import DOMAINS

HELDOUT_BYTES = 2500
HELDOUT_TOKENS = 224
PROMPTS = 5
PROMPT_TOKENS = (12, 40)

# Where a prompt may begin inside a document; documents of the other domains start at their beginning.
_STARTS = {
    "source": re.compile(r"^(?:def|class|    def) \w+", re.MULTILINE),
    "manual": re.compile(r"(?<=\n\n)[A-Z][a-z]+ [a-z]+ "),
}


def choose_heldout(tokenizer: Tokenizer, documents: dict[str, list[str]]) -> dict[str, list[str]]:
    """About HELDOUT_BYTES of text a domain from the first documents, each text within one context."""
    chosen: dict[str, list[str]] = {}
    for domain in DOMAINS:
        texts: list[str] = []
        for document in documents[domain]:
            text = _whole_lines(tokenizer, document)
            if text.isascii() and len(text) >= 40:
                texts.append(text)
            if sum(map(len, texts)) >= HELDOUT_BYTES:
                break
        chosen[domain] = texts
    return chosen


def _whole_lines(tokenizer: Tokenizer, document: str) -> str:
    text = ""
    for line in document.splitlines(keepends=True):
        if len(tokenizer.encode(text + line).ids) > HELDOUT_TOKENS:
            break
        text += line
    return text


def choose_prompts(tokenizer: Tokenizer, documents: dict[str, list[str]], seed: int) -> list[dict[str, str]]:
    """PROMPTS beginnings a domain of PROMPT_TOKENS tokens, cut after a word, from the last documents."""
    rng = random.Random(seed)
    prompts = []
    for domain in DOMAINS:
        found: list[str] = []
        for text in _beginnings(domain, documents[domain][::-1], rng):
            prompt = _cut(tokenizer, text, rng.randint(*PROMPT_TOKENS))
            if prompt and prompt not in found:
                found.append(prompt)
            if len(found) == PROMPTS:
                break
        prompts += [{"domain": domain, "text": text} for text in found]
    return prompts


def _beginnings(domain: str, documents: list[str], rng: random.Random) -> Iterator[str]:
    for _ in range(PROMPTS):
        for document in documents:
            pattern = _STARTS.get(domain)
            starts = [match.start() for match in pattern.finditer(document)] if pattern else [0]
            if starts:
                start = rng.choice(starts)
                yield document[start : start + 400]


def _cut(tokenizer: Tokenizer, text: str, tokens: int) -> str:
    """The first `tokens` tokens, shortened to whole words; empty if too little is left."""
    if not text.isascii():
        return ""
    whole = tokenizer.decode(tokenizer.encode(text).ids[:tokens])
    prompt = re.sub(r"\s+\S*$", "", whole)
    low, high = PROMPT_TOKENS
    return prompt if low <= len(tokenizer.encode(prompt).ids) <= high else ""
