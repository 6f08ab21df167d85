"""A run that was interrupted and gone on with, as a whole or with one of its boards: what the record says of it.

The orbit waits for its controller: scenario time stands at the last tick until the run goes on from there. Boards that
lived on served nobody meanwhile; what they recorded is kept, and belongs to the interruption.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ground_controller.journal import Journal

KIND = "resumed"
RETURNED = "returned"


class RunResumed(msgspec.Struct, frozen=True):
    """Journalled before the nodes are told. Host times are of the ground's monotonic clock.

    Scenario time was `at_s` at `stopped_ns`, stood there, and runs on at `rate` from `host_ns`. `offsets`: node -> its
    monotonic clock minus ours and how far that may be wrong, ns. `anew`: nodes whose agents were started for it;
    `requests`: those that go on from where the record has them.
    """

    epoch: int
    at_s: float
    stopped_ns: int
    host_ns: int
    rate: float
    offsets: dict[str, tuple[int, int]]
    boots: dict[str, str]
    anew: tuple[str, ...]
    requests: tuple[int, ...]
    utc: str

    @property
    def gap_s(self) -> float:
        """Host seconds without a controller."""
        return (self.host_ns - self.stopped_ns) / 1e9


class BoardReturned(msgspec.Struct, frozen=True):
    """Boot `boot_id` of a board whose agent was started again was told of the run that goes on; `problem`: why it takes
    no part all the same, empty if it does."""

    boot_id: str
    problem: str


class Interruption(msgspec.Struct, frozen=True):
    """One interruption as reports tell it: at which orbit second, for how many host seconds, what followed."""

    scenario_s: float
    gap_s: float
    epoch: int
    requests: int
    agents: Literal["lived on", "started anew", "some started anew"]


def resumptions(journal: Journal) -> list[RunResumed]:
    """As recorded."""
    return [msgspec.json.decode(entry.body, type=RunResumed) for entry in journal.entries(KIND)]


def interruptions(journal: Journal) -> tuple[Interruption, ...]:
    """Every interruption of a run, in order."""
    return tuple(
        Interruption(
            round(one.at_s, 3), round(one.gap_s, 3), one.epoch, len(one.requests),
            "lived on" if not one.anew else "started anew" if len(one.anew) == len(one.boots) else "some started anew",
        )
        for one in resumptions(journal)
    )  # fmt: skip
