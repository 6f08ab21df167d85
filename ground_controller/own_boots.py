"""Which evidence is this run's: that of boots which were online in it, recorded in it or in no run.

A board hands in what it still holds of an earlier run whose controller died: an agent that was started again from its
disk, one that lived on from its spool. Counted here it would be work that this run never did. It is recorded under a
kind of its own, so that it is committed and the board can forget it, and says nothing.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from ground_controller.admission import KIND as REFUSED
from ground_controller.inbox import Arrival
from ground_controller.interruption import resumptions
from ground_controller.journal import Journal
from hil_config.wire import messages as m

EARLIER = "earlier"
"""Kind of an entry that is another run's."""


class _Recorded(msgspec.Struct):
    """The one field of a record that is needed here."""

    epoch: int = 0


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

    def first_numbers(self, journal: Journal) -> dict[tuple[str, str], int]:
        """(node, boot) -> the first of its numbers that is this run's; 1 where no record says which. Boots that are not
        this run's are left out: what they gave up, other runs have or nobody waits for."""
        found: dict[tuple[str, str], int] = {}
        unknown: set[tuple[str, str]] = set()
        for entry in journal.entries():
            source = entry.node, entry.boot_id
            if entry.seq <= 0 or source in found:
                continue
            if entry.node not in self._boots or entry.boot_id in self._boots[entry.node]:
                unknown.add(source)
                if entry.kind not in ("gap", EARLIER, REFUSED) and self._recorded_in_it(entry.body):
                    found[source] = entry.seq
        return dict.fromkeys(unknown, 1) | found

    def _recorded_in_it(self, body: bytes) -> bool:
        epoch = msgspec.json.decode(body, type=_Recorded).epoch
        return epoch > 0 and epoch in self._epochs
