"""The whole constellation, reduced to the paths between the few satellites that nodes play."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.paths import Book, Row, empty_book, follow, note
from ground_controller.orbit.topology import Edges
from ground_controller.orbit.visibility import delay_s
from ground_controller.routing.shortest import Trees, directed, shortest_trees
from hil_config.wire.schedule_changes import RouteTable

Float = NDArray[np.float64]
Int = NDArray[np.int64]


class Reduced(NamedTuple):
    """Every ordered mapped pair at N instants, each [N, P]; `route` counts in `routes` from 1, 0 is none."""

    delay_s: Float
    rate_bit_s: Float
    loss: Float
    up: NDArray[np.bool_]
    hops: Int
    route: Int
    routes: RouteTable


class Reduction:
    """Takes the links of one instant after another.

    Args:
        satellites: how many; numbers from there on are ground stations, which are ends and relay for nobody.
        count: nodes in all; mapped: [M] their numbers among them; loss: frame loss probability of a link.
        relay: False: direct links only.
    """

    def __init__(self, satellites: int, count: int, mapped: Int, loss: float, relay: bool) -> None:
        self._satellites = satellites
        self._count = count
        self._mapped = np.asarray(mapped, np.int64)
        self._loss = loss
        self._relay = relay
        self._pairs = mapped.size * (mapped.size - 1)
        self._place = {node: place for place, node in enumerate(self._mapped.tolist())}
        self._rows: list[Row] = []
        self._book: Book = empty_book(count, self._pairs, self._mapped)

    @property
    def nodes(self) -> tuple[int, ...]:
        """Node numbers in the order that routes count them: the mapped ones, then those met on the way."""
        number = self._book.number
        met = np.flatnonzero(number >= 0)
        return tuple(met[np.argsort(number[met])].tolist())

    def add(self, edges: Edges, rate_bit_s: Float) -> None:
        """One instant: its links and their rates [E]."""
        p = self._pairs
        row = Row(np.zeros(p), np.zeros(p), np.zeros(p, np.int64), np.zeros(p, np.int64))
        delay = delay_s(edges.distance_km)
        if self._relay:
            self._add_paths(edges, delay, rate_bit_s, row)
        else:
            self._add_links(edges, delay, rate_bit_s, row)
        self._rows.append(row)

    def _add_links(self, edges: Edges, delay: Float, rate_bit_s: Float, row: Row) -> None:
        others = self._mapped.size - 1
        for a, b, one, rate in zip(
            edges.a.tolist(), edges.b.tolist(), delay.tolist(), rate_bit_s.tolist(), strict=True
        ):
            i, j = self._place.get(a), self._place.get(b)
            if i is None or j is None or i == j:
                continue
            there, back = (x * others + y - (y > x) for x, y in ((i, j), (j, i)))
            self._book = self._book.with_room(2, 4)
            route = note(np.array([a, b]), 1, there, *self._book)
            row.delay_s[[there, back]], row.rate_bit_s[[there, back]], row.hops[[there, back]] = one, rate, 1
            row.route[[there, back]] = route, route + 1

    def _add_paths(self, edges: Edges, delay: Float, rate: Float, row: Row) -> None:
        key = np.minimum(edges.a, edges.b) * self._count + np.maximum(edges.a, edges.b)
        order = np.argsort(key)
        key, rate = key[order], np.ascontiguousarray(rate[order], np.float64)
        tree, at = self._trees(edges, delay)
        for place in range(self._mapped.size - 1):
            k = int(at[place])
            goals = tree.hops[k, self._mapped[place + 1 :]]
            self._book = self._book.with_room(2 * goals.size, 2 * int((goals + 1).sum(dtype=np.int64)))
            follow(
                place, self._mapped, tree.distance[k], tree.previous[k], tree.hops[k], key, rate, *self._book, *row
            )  # fmt: skip

    def _trees(self, edges: Edges, delay: Float) -> tuple[Trees, Int]:
        """A tree for each mapped node, and which of them is whose. Nothing leaves a station but the station's own."""
        down = edges.b >= self._satellites
        a, b, between = edges.a, edges.b, delay[~down]
        source, target = np.r_[a[~down], b[~down], a[down]], np.r_[b[~down], a[~down], b[down]]
        weight = np.r_[between, between, delay[down]]
        flying = self._mapped < self._satellites
        found = [shortest_trees(directed(self._count, source, target), weight, self._mapped[flying])]
        for node in self._mapped[~flying].tolist():
            own = b == node
            up = directed(self._count, np.r_[source, b[own]], np.r_[target, a[own]])
            found.append(shortest_trees(up, np.r_[weight, delay[own]], [node]))
        at = np.where(flying, np.cumsum(flying) - 1, flying.sum() + np.cumsum(~flying) - 1)
        return Trees(*(np.concatenate(part) for part in zip(*found, strict=True))), at

    def finish(self) -> Reduced:
        delay, rate, hops, route = (np.stack(column) for column in zip(*self._rows, strict=True))
        loss = np.asarray(1.0 - (1.0 - self._loss) ** hops)
        _, routes, used = self._book.totals.tolist()
        table = RouteTable(self._book.first[: routes + 2], self._book.node[:used])
        return Reduced(delay, rate, loss, hops > 0, hops, route, table)
