"""Which evidence is this run's: that of boots which were online in it.

An agent that was started again hands in what its disk still holds of an earlier run, committed there or not. Counted
here it would be work that this run never did. It is recorded under a kind of its own, so that it is committed and the
board can forget it, and says nothing.
"""

from __future__ import annotations

from collections import defaultdict

from ground_controller.inbox import Arrival
from ground_controller.journal import Journal
from hil_config.wire import messages as m

EARLIER = "earlier"
"""Kind of an entry that another run's boot handed in."""


class OwnBoots:
    """Args: `journal`, of a run that begins, or goes on with the boots that were in it before."""

    def __init__(self, journal: Journal) -> None:
        self._boots: defaultdict[str, set[str]] = defaultdict(set)
        for entry in journal.entries("status"):
            self._meet(entry.node, entry.body)

    def _meet(self, node: str, body: bytes) -> None:
        status = m.decode(body, m.Status)
        if status.state != "offline":
            self._boots[node].add(status.boot_id)

    def told_apart(self, arrivals: list[Arrival]) -> list[Arrival]:
        """The same, evidence of boots that were not online in this run marked as EARLIER."""
        for one in arrivals:
            if one.kind == "status":
                self._meet(one.node, one.body)
        return [one._replace(kind=EARLIER) if self._foreign(one) else one for one in arrivals]

    def _foreign(self, one: Arrival) -> bool:
        # Gaps count numbers, not work; and nothing is known of a node that has not said which boot it is in.
        if one.seq <= 0 or one.kind == "gap" or one.node not in self._boots:
            return False
        return one.boot_id not in self._boots[one.node]
