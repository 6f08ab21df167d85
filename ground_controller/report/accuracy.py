"""What the run's selection cost in accuracy, next to the joules.

Every generated token is put to the same model in one process with plain top-k and the same shards, after the
same history (teacher forcing): how often would it have chosen the same token, and how much log-probability
does it give to the one that was chosen less than to its own choice.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from ground_controller.client_events import RequestBegan, RequestEnded
from ground_controller.journal import Journal
from hil_config.errors import ArtefactError
from models.oracle import Oracle

MOST_TOKENS = 6_000
"""Enough for a standard error of half a percent; keeps the report quick."""


class Accuracy(NamedTuple):
    """`agreement` share of tokens; `given_up_nats` mean log-probability given up; over `tokens` tokens."""

    agreement: float | None
    given_up_nats: float | None
    tokens: int
    note: str


def accuracy(journal: Journal) -> Accuracy:
    """Compare with the oracle; no figure, and the reason, when the shards are not here any more."""
    if journal.meta("simulated", ""):
        return Accuracy(None, None, 0, "simulated: the text is the undisturbed model's, whatever was selected")
    shards = Path(journal.meta("shards"))
    campaign = msgspec.json.decode(journal.meta("campaign"))
    try:
        oracle = Oracle(shards, campaign["model"]["precision"])
    except ArtefactError as error:
        return Accuracy(None, None, 0, f"not compared with top-k: {error.message}")
    same: list[bool] = []
    given_up: list[float] = []
    prompts: dict[int, tuple[int, ...]] = {}
    for entry in journal.entries("request_begin", "request_end"):
        if entry.kind == "request_begin":
            begin = msgspec.json.decode(entry.body, type=RequestBegan)
            prompts[begin.request] = begin.prompt_tokens
            continue
        end = msgspec.json.decode(entry.body, type=RequestEnded)
        if not end.tokens or len(same) >= MOST_TOKENS:
            continue
        prompt = prompts[end.request]
        _, logits = oracle.prefill([*prompt, *end.tokens[:-1]])
        rows = logits[len(prompt) - 1 :].astype(np.float64)
        chosen = np.array(end.tokens)
        best = rows.argmax(axis=1)
        same += (best == chosen).tolist()
        lead = rows.max(axis=1) - rows[np.arange(len(chosen)), chosen]
        given_up += lead.tolist()
    if not same:
        return Accuracy(None, None, 0, "no tokens to compare")
    note = "same shards, plain top-k in one process, same history"
    return Accuracy(round(float(np.mean(same)), 5), round(float(np.mean(given_up)), 5), len(same), note)
