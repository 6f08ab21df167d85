"""Ways between the nodes of a bench over the predicted schedule: of frames now, and of weights over time.

A frame is not stored on its way: a route that waits for a contact is none. Weights may wait, and book what they use.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from ground_controller.formats.plan import Contact, ContactPlan
from ground_controller.policies.further import Carried, Leg
from ground_controller.routing.route import Message, Route, travel
from ground_controller.routing.routers import ContactGraphRouting, make_router
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.plan import MAX_HOPS

SEGMENT_S = 10.0
"""For frames a contact is cut into pieces this long, each with the delay at its middle."""
MOST_CONTACTS = 100_000
WAIT_S = 1e-6
Names = tuple[str, ...]


def contact_plan(
    schedule: LinkSchedule, satellites: Names, nodes: Names, share: float = 1.0, segment_s: float = SEGMENT_S
) -> ContactPlan:
    """The links between the nodes' satellites as contacts between the nodes, with `share` of their rate. No contact is
    longer than `segment_s`, and none changes its rate."""
    head = schedule.header
    place = dict(zip(satellites, nodes, strict=True))
    columns = [n for n, (a, b) in enumerate(head.pairs) if a in place and b in place]
    segment = max(segment_s, head.duration_s * max(len(columns), 1) / MOST_CONTACTS, head.step_s)
    every = max(1, round(min(segment, head.duration_s) / head.step_s))
    steps = np.arange(max(1, round(head.duration_s / head.step_s))) * head.step_s
    times = np.union1d(steps, schedule.arrays.links["time_s"])  # a plan's contacts keep to no steps
    times = times[times < head.duration_s]
    pieces = np.searchsorted(times, steps[::every])
    seen = schedule.sample(times)
    contacts = []
    for column in columns:
        a, b = (place[name] for name in head.pairs[column])
        up, rate, delay = seen.up[:, column], seen.rate_bit_s[:, column], seen.delay_s[:, column]
        changes = np.flatnonzero((up[1:] != up[:-1]) | (rate[1:] != rate[:-1])) + 1
        cuts = np.union1d(np.union1d(pieces, changes), [len(times)])
        for first, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            if up[first] and rate[first] > 0.0:
                until = float(times[end]) if end < len(times) else head.duration_s
                middle = float(delay[(first + end - 1) // 2])
                contacts.append(Contact(float(times[first]), until, a, b, float(rate[first]) * share, middle))
    return ContactPlan(tuple(sorted(contacts)), registered=tuple(nodes))


class FrameWays:
    """Ways of frames by a router of the table (`snapshot_dijkstra`, `time_expanded`, `cgr`).

    Args:
        size_bit: of the frame that routes are found for.
    """

    def __init__(self, router: str, schedule: LinkSchedule, satellites: Names, nodes: Names, size_bit: float) -> None:
        self.name = router
        self._nodes = nodes
        self._size_bit = size_bit
        self._plan = contact_plan(schedule, satellites, nodes)
        make_router(router, self._plan)  # a wrong name is said before the run
        edges = {c.start_s for c in self._plan.contacts} | {c.end_s for c in self._plan.contacts}
        self._edges = sorted(edges)
        self._last_s = math.nextafter(schedule.duration_s, 0.0)
        self._known: tuple[tuple[int, tuple[bool, ...]], tuple[tuple[int, ...], ...]] | None = None

    def ways(self, scenario_s: float, alive: tuple[bool, ...]) -> tuple[tuple[int, ...], ...]:
        """Of each ordered pair whose frames go over others, the nodes on the way, both ends included."""
        # What holds at the end of the schedule goes on: a run takes a few ticks to end.
        key = bisect_right(self._edges, min(scenario_s, self._last_s)), alive
        if self._known is None or self._known[0] != key:
            self._known = key, self._find(key[0], scenario_s, alive)
        return self._known[1]

    def _find(self, piece: int, scenario_s: float, alive: tuple[bool, ...]) -> tuple[tuple[int, ...], ...]:
        """Found once for the time until the next contact begins or ends, as at its beginning."""
        at_s = self._edges[piece - 1] if piece else scenario_s
        names = {node for node, lives in zip(self._nodes, alive, strict=True) if lives}
        now = tuple(
            c for c in self._plan.contacts if c.start_s <= at_s < c.end_s and c.source in names and c.target in names
        )
        router = make_router(self.name, ContactPlan(now, registered=self._nodes))
        found = []
        for a, source in enumerate(self._nodes):
            for b, target in enumerate(self._nodes):
                if a != b and alive[a] and alive[b]:
                    route = router.route(Message(source, target, at_s, self._size_bit))
                    if route is not None and 2 <= len(route.hops) <= MAX_HOPS and self._flows(route, at_s):
                        found.append(tuple(self._nodes.index(name) for name in route.nodes))
        return tuple(found)

    def _flows(self, route: Route, at_s: float) -> bool:
        """Does it never wait for a contact?"""
        for hop in route.hops:
            if hop.leaves_s - self._size_bit / hop.contact.rate_bit_s > at_s + WAIT_S:
                return False
            at_s = hop.arrives_s
        return True


class WeightCarrier:
    """Weights by contact graph routing over the prediction, each way booked; what becomes of them by the factual plan.

    Weights take as long as they take: their contacts are not cut, and milliseconds of delay do not matter to them.

    Args:
        share: of a link's rate that weights may take.
    """

    def __init__(
        self, predicted: LinkSchedule, factual: LinkSchedule, satellites: Names, nodes: Names, share: float
    ) -> None:
        self._nodes = nodes
        expected = contact_plan(predicted, satellites, nodes, share, math.inf)
        self._router = ContactGraphRouting(expected)
        self._factual = contact_plan(factual, satellites, nodes, share, math.inf)

    def carry(self, source: int, target: int, at_s: float, bits: float, alive: Sequence[bool]) -> Carried | None:
        """Book the way of `bits` from one node to another; None where there is none over living nodes."""
        message = Message(self._nodes[source], self._nodes[target], at_s, bits)
        route = self._router.route(message)
        if route is None or not all(alive[self._nodes.index(name)] for name in route.nodes):
            return None
        self._router.book(route, bits)
        happened = travel(route, message, self._factual)
        legs = tuple(
            Leg(
                self._nodes.index(hop.contact.source), self._nodes.index(hop.contact.target),
                hop.leaves_s - bits / hop.contact.rate_bit_s, hop.leaves_s,
            )
            for hop in happened.hops
        )  # fmt: skip
        return Carried(legs, route.arrival_s, happened.arrived_s)
