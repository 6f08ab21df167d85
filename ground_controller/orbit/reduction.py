"""The whole constellation, reduced to the paths between the few satellites that nodes play."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.topology import Edges
from ground_controller.orbit.visibility import delay_s
from ground_controller.routing.shortest import Trees, directed, shortest_trees

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
    routes: tuple[tuple[int, ...], ...]


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
        self._mapped: list[int] = mapped.tolist()
        self._loss = loss
        self._relay = relay
        self._pairs = [(a, b) for a in self._mapped for b in self._mapped if a != b]
        self._column = {pair: column for column, pair in enumerate(self._pairs)}
        self._rows: list[tuple[Float, Float, Int, Int]] = []
        self._routes: dict[tuple[int, ...], int] = {}
        self._number = {node: at for at, node in enumerate(self._mapped)}

    @property
    def nodes(self) -> tuple[int, ...]:
        """Node numbers in the order that routes count them: the mapped ones, then those met on the way."""
        return tuple(self._number)

    def add(self, edges: Edges, rate_bit_s: Float) -> None:
        """One instant: its links and their rates [E]."""
        p = len(self._pairs)
        row = (np.zeros(p), np.zeros(p), np.zeros(p, np.int64), np.zeros(p, np.int64))
        delay = delay_s(edges.distance_km)
        if self._relay:
            self._add_paths(edges, delay, rate_bit_s, row)
        else:
            for a, b, one, rate in zip(
                edges.a.tolist(), edges.b.tolist(), delay.tolist(), rate_bit_s.tolist(), strict=True
            ):
                for pair in ((a, b), (b, a)):
                    column = self._column.get(pair)
                    if column is not None:
                        self._set(row, column, one, rate, pair)
        self._rows.append(row)

    def _set(
        self, row: tuple[Float, Float, Int, Int], column: int, delay: float, rate: float, path: tuple[int, ...]
    ) -> None:
        row[0][column], row[1][column], row[2][column] = delay, rate, len(path) - 1
        route = tuple(self._number.setdefault(node, len(self._number)) for node in path)
        row[3][column] = self._routes.setdefault(route, len(self._routes) + 1)

    def _add_paths(self, edges: Edges, delay: Float, rate: Float, row: tuple[Float, Float, Int, Int]) -> None:
        trees = self._trees(edges, delay)
        key = np.minimum(edges.a, edges.b) * self._count + np.maximum(edges.a, edges.b)
        order = np.argsort(key)
        key, rate = key[order], rate[order]
        for i, source in enumerate(self._mapped):
            for goal in self._mapped[i + 1 :]:
                tree = trees[i]
                path = _path(tree, source, goal)
                if not path:
                    continue
                ends = np.sort(np.array([path[:-1], path[1:]]), axis=0)
                slowest = float(rate[np.searchsorted(key, ends[0] * self._count + ends[1])].min())
                length = float(tree.distance[0, goal])
                self._set(row, self._column[source, goal], length, slowest, path)
                self._set(row, self._column[goal, source], length, slowest, path[::-1])

    def _trees(self, edges: Edges, delay: Float) -> list[Trees]:
        """One tree a mapped node. Nothing leaves a station but the station's own."""
        down = edges.b >= self._satellites
        a, b, between = edges.a, edges.b, delay[~down]
        source, target = np.r_[a[~down], b[~down], a[down]], np.r_[b[~down], a[~down], b[down]]
        weight = np.r_[between, between, delay[down]]
        graph, found = directed(self._count, source, target), []
        for node in self._mapped:
            if node < self._satellites:
                found.append(shortest_trees(graph, weight, [node]))
                continue
            own = b == node
            up = directed(self._count, np.r_[source, b[own]], np.r_[target, a[own]])
            found.append(shortest_trees(up, np.r_[weight, delay[own]], [node]))
        return found

    def finish(self) -> Reduced:
        delay: Float = np.stack([row[0] for row in self._rows])
        rate: Float = np.stack([row[1] for row in self._rows])
        hops: Int = np.stack([row[2] for row in self._rows])
        route: Int = np.stack([row[3] for row in self._rows])
        loss = np.asarray(1.0 - (1.0 - self._loss) ** hops)
        return Reduced(delay, rate, loss, hops > 0, hops, route, tuple(self._routes))


def _path(tree: Trees, source: int, goal: int) -> tuple[int, ...]:
    if not np.isfinite(tree.distance[0, goal]):
        return ()
    nodes, previous = [goal], tree.previous[0]
    while nodes[-1] != source:
        nodes.append(int(previous[nodes[-1]]))
    return tuple(reversed(nodes))
