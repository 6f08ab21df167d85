"""Which evidence is this run's: that of boots which were online in it, recorded in it or in no run.

A board hands in what it still holds of an earlier run whose controller died: an agent that was started again from its
disk, one that lived on from its spool. Counted here it would be work that this run never did. It is recorded under a
kind of its own, so that it is committed and the board can forget it, and says nothing.
"""

from __future__ import annotations

from collections import defaultdict

from ground_controller.inbox import Arrival
from ground_controller.interruption import resumptions
from ground_controller.journal import Journal
from hil_config.wire import messages as m

EARLIER = "earlier"
"""Kind of an entry that is another run's."""


class OwnBoots:
    """Args: `journal`, of a run that begins, or goes on with the boots that were in it before."""

    def __init__(self, journal: Journal) -> None:
        self._boots: defaultdict[str, set[str]] = defaultdict(set)
        self._epochs = {0, int(journal.meta("epoch", "0")), *(one.epoch for one in resumptions(journal))}
        for entry in journal.entries("status"):
            self._meet(entry.node, entry.body)

    def _meet(self, node: str, body: bytes) -> None:
        status = m.decode(body, m.Status)
        if status.state != "offline":
            self._boots[node].add(status.boot_id)

    def told_apart(self, arrivals: list[Arrival]) -> list[Arrival]:
        """The same, evidence that is not this run's marked as EARLIER."""
        for one in arrivals:
            if one.kind == "status":
                self._meet(one.node, one.body)
        return [one._replace(kind=EARLIER) if self._foreign(one) else one for one in arrivals]

    def _foreign(self, one: Arrival) -> bool:
        if one.seq <= 0 or one.kind == "gap":
            return False  # gaps count numbers, not work
        if one.epoch not in self._epochs:
            return True
        # Nothing is known of a node that has not said which boot it is in.
        return one.node in self._boots and one.boot_id not in self._boots[one.node]
