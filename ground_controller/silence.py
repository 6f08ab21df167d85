"""Why a run brought no token, in the words of its own record."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ground_controller.decision import Decision
from ground_controller.journal import Journal
from hil_config.errors import InvalidRunError

MOST_REASONS = 4


def refuse_silent(folder: Path) -> None:
    """InvalidRunError with what the policies said last; for a run that generated no token."""
    journal = Journal.read(folder)
    try:
        bodies = [entry.body for entry in journal.entries("decision")]
        begun = sum(1 for _ in journal.entries("request_begin"))
    finally:
        journal.close()
    said, first = "", ""
    if bodies:
        last = msgspec.json.decode(bodies[-1], type=Decision)
        parts = [part for part in last.plan.reason.split("; ") if "out of reach" in part or "no host" in part]
        said = "; at the end " + "; ".join(parts[:MOST_REASONS]) if parts else ""
        first = last.plan.gateways[0].nodes[0]
    why = f"{begun} requests begun{said}"
    hint = "see which satellites ever reach each other: hil schedule validate " + str(folder / "schedule.hsched")
    if first:
        hint += f"; and why a node was not used: hil explain {folder} --node {first} --at 0"
    raise InvalidRunError(f"{folder}: the run generated no token: {why}", hint)
