"""One check of a run: what was looked at, what was found, and where."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["pass", "fail", "not applicable"]


class Check(msgspec.Struct, frozen=True):
    """`figure` is what was found and what was wanted; `where` the node, tick, file or entry it was found at."""

    name: str
    outcome: Outcome
    figure: str
    where: str = ""
    hint: str = ""


def judged(name: str, good: bool, figure: str, where: str = "", hint: str = "") -> Check:
    """A check that passes if `good`; the hint is for those that do not."""
    return Check(name, "pass" if good else "fail", figure, where, "" if good else hint)


def not_applicable(name: str, reason: str) -> Check:
    """A check that has no object in this run."""
    return Check(name, "not applicable", reason)


def listed(items: list[str], most: int = 4) -> str:
    """The first of `items`, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + more
