"""Routers by name: a literal table."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ground_controller.formats.plan import Contact, ContactPlan
from ground_controller.routing.contact_graph import best_path, contact_table, layers_from, path_in
from ground_controller.routing.route import Hop, Message, Route, Router
from ground_controller.routing.shortest import directed, route, shortest_trees
from hil_config.errors import ConfigError


class _Booked:
    """A plan with what is booked on it: each contact is busy until its last message has been sent."""

    def __init__(self, plan: ContactPlan) -> None:
        self._table = contact_table(plan)
        self._number = self._table.number
        self._busy_s = np.full(self._table.end_s.size, -np.inf)
        self._row = {plan.contacts[index]: row for row, index in enumerate(self._table.contact.tolist())}

    def _ends(self, message: Message) -> tuple[int, int]:
        for name in (message.source, message.target):
            if name not in self._number:
                raise ConfigError(f"routes: the plan has no node {name!r}", f"nodes: {', '.join(self._table.nodes)}")
        return self._number[message.source], self._number[message.target]

    def _hops(self, rows: list[int], message: Message) -> Route | None:
        t, hops, table = message.at_s, list[Hop](), self._table
        for row in rows:
            ready = max(t, float(table.start_s[row]), float(self._busy_s[row]))
            leaves = ready + message.size_bit / float(table.rate_bit_s[row])
            t = leaves + float(table.delay_s[row])
            hops.append(Hop(table.plan.contacts[int(table.contact[row])], leaves, t))
        return Route(tuple(hops)) if hops else None

    def book(self, route: Route, size_bit: float) -> None:
        for hop in route.hops:
            self._busy_s[self._row[hop.contact]] = hop.leaves_s

    def residual_bit(self, contact: Contact) -> float:
        row = self._row.get(contact)
        if row is None:
            return 0.0
        begin = max(contact.start_s, float(self._busy_s[row]))
        return max(0.0, contact.end_s - begin) * contact.rate_bit_s


class ContactGraphRouting(_Booked):
    """`cgr`: earliest arrival, then fewest contacts, latest termination, smallest entry node (CCSDS 734.3-B, 2.3)."""

    name = "cgr"

    def route(self, message: Message) -> Route | None:
        source, goal = self._ends(message)
        return self._hops(
            best_path(self._table, source, goal, message.at_s, message.size_bit, self._busy_s), message
        )  # fmt: skip


class TimeExpanded(_Booked):
    """`time_expanded`: earliest arrival alone; of equal routes the one found first."""

    name = "time_expanded"

    def route(self, message: Message) -> Route | None:
        source, goal = self._ends(message)
        if source == goal:
            return None
        layers = layers_from(self._table, source, message.at_s, message.size_bit, self._busy_s)
        return self._hops(path_in(self._table, layers, goal, layers.layers - 1), message)


class SnapshotDijkstra(_Booked):
    """`snapshot_dijkstra`: the quickest path over the contacts that exist now, as if they lasted.

    What terrestrial routing does. It never waits for a contact, and it may take one that ends too early; its
    `arrival_s` is then wrong, which `travel` shows.
    """

    name = "snapshot_dijkstra"

    def route(self, message: Message) -> Route | None:
        source, goal = self._ends(message)
        table, now = self._table, message.at_s
        rows = np.flatnonzero((table.start_s <= now) & (table.end_s > now))
        wait = np.maximum(self._busy_s[rows] - now, 0.0)
        cost = wait + message.size_bit / table.rate_bit_s[rows] + table.delay_s[rows]
        trees = shortest_trees(directed(len(table.nodes), table.source[rows], table.target[rows]), cost, [source])
        nodes = route(trees.previous[0], source, goal)
        taken = []
        for a, b in pairwise(nodes):
            between = np.flatnonzero((table.source[rows] == a) & (table.target[rows] == b))
            taken.append(int(rows[between[np.argmin(cost[between])]]))
        return self._hops(taken, message)


ROUTERS: dict[str, Callable[[ContactPlan], Router]] = {
    "snapshot_dijkstra": SnapshotDijkstra,
    "time_expanded": TimeExpanded,
    "cgr": ContactGraphRouting,
}


def make_router(name: str, plan: ContactPlan) -> Router:
    """The router called `name` over a plan, or ConfigError naming those there are."""
    if name not in ROUTERS:
        raise ConfigError(f"routes: no router is called {name!r}", f"routers: {', '.join(ROUTERS)}")
    return ROUTERS[name](plan)
