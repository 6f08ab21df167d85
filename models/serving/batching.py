"""Which steps of different requests go through a layer together, and how long prompts are cut for it."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

BATCH_ROWS = 256
CHUNK_ROWS = 64
"""Rows of a prompt that go through a layer together: long prompts do not hold up everybody's next token."""
FAIR_S = 0.05
"""Waiting longer than this goes before everything else."""


class Waiting(Protocol):
    """A step that waits for a layer since `ready_s`; nobody wants a stale one any more."""

    ready_s: float
    stale: bool

    @property
    def rows(self) -> int: ...


Key = TypeVar("Key", bound=tuple[Any, ...])
Step = TypeVar("Step", bound=Waiting)


def take_batch(waiting: dict[Key, list[Step]], now_s: float) -> list[Step]:
    """Take the next batch out of `waiting`, which holds no empty list and is keyed by layer, then by what else keeps
    steps apart: at most `BATCH_ROWS` rows, or one step however long; empty where nothing waits or all was stale.

    The lowest layer goes first, so that steps behind catch up with those ahead and share their calls from then
    on; a step that has waited for `FAIR_S` goes before that rule.
    """
    if not waiting:
        return []
    key = next(iter(waiting)) if len(waiting) == 1 else _first(waiting, now_s)
    steps = waiting.pop(key)
    rows = count = 0
    for step in steps:
        if count and rows + step.rows > BATCH_ROWS:
            waiting[key] = steps[count:]
            break
        rows, count = rows + step.rows, count + 1
    return [step for step in steps[:count] if not step.stale]


def _first(waiting: dict[Key, list[Step]], now_s: float) -> Key:
    oldest = min(waiting, key=lambda key: waiting[key][0].ready_s)
    return oldest if now_s - waiting[oldest][0].ready_s > FAIR_S else min(waiting)
