"""Messages of boards that could not be read: each is recorded under its board's name, so that nobody has to guess.

A board of another release, or one that is ill, would otherwise look like one that says nothing.
"""

from __future__ import annotations

import time

import msgspec

from ground_controller.inbox import Arrival
from ground_controller.journal import Journal

KIND = "bad_message"
"""Of a journal entry. `node`: who wrote the topic; "" where that is not known, as in older journals."""

HINT = "do boards and ground have the same release? hil provision BOARD --upgrade brings this one"


def unread(node: str, reason: str) -> Arrival:
    """What is recorded of a message of `node`."""
    return Arrival(time.monotonic_ns(), KIND, node, "", 0, msgspec.json.encode(reason))


def why_unread(body: bytes) -> str:
    """The reason, from the body of such an entry."""
    return msgspec.json.decode(body, type=str)


def unread_messages(journal: Journal) -> dict[str, tuple[int, str]]:
    """By node of the run ("" where it is not known): how many there were, and why the last could not be read."""
    boards = {board["name"] for board in msgspec.json.decode(journal.meta("bench"))["boards"]}
    found: dict[str, tuple[int, str]] = {}
    for entry in journal.entries(KIND):
        if journal.covers(entry.node) and (not entry.node or entry.node in boards):
            found[entry.node] = found.get(entry.node, (0, ""))[0] + 1, why_unread(entry.body)
    return found
