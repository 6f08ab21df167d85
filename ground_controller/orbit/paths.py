"""The loops of `reduction`: paths read out of trees, and numbered, compiled or plain.

Routes are kept one after another: route r is `node[first[r]:first[r + 1]]`, route 0 is empty. A path and its way back
come together, as numbers r and r + 1; no other pair has these ends, so a path is compared with its own pair's alone.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ground_controller.compiled import compiled

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_T = TypeVar("_T", bound=np.generic)


class Row(NamedTuple):
    """One instant, each [P]: delay, rate, hops and the route's number of every ordered pair; 0 where there is none."""

    delay_s: Float
    rate_bit_s: Float
    hops: Int
    route: Int


class Book(NamedTuple):
    """Nodes and routes by number.

    number: [nodes] of each node, -1 where it was not met. totals: nodes met, routes, and entries of `node` in use.
    first: [R]; node: [L]; older: [R] the route before of the same pair, 0 none. newest: [P] of each pair.
    """

    number: Int
    totals: Int
    first: Int
    node: NDArray[np.uint32]
    older: Int
    newest: Int

    def with_room(self, routes: int, nodes: int) -> Book:
        """The same with room for so many more."""
        _, known, used = self.totals.tolist()
        return self._replace(
            first=_longer(self.first, known + routes + 2), node=_longer(self.node, used + nodes),
            older=_longer(self.older, known + routes + 2),
        )  # fmt: skip


def empty_book(nodes: int, pairs: int, mapped: Int) -> Book:
    """Mapped nodes have the first numbers."""
    number = np.full(nodes, -1, np.int64)
    number[mapped] = np.arange(mapped.size)
    zero = np.zeros(2, np.int64)
    totals = np.array([mapped.size, 0, 0], np.int64)
    return Book(number, totals, zero, np.zeros(0, np.uint32), zero.copy(), np.zeros(pairs, np.int64))


def _longer(array: NDArray[_T], wanted: int) -> NDArray[_T]:
    if wanted <= array.size:
        return array
    found = np.zeros(max(wanted, 2 * array.size), array.dtype)
    found[: array.size] = array
    return found


@compiled
def note(
    path: Int, steps: int, there: int, number: Int, totals: Int, first: Int, node: NDArray[np.uint32],
    older: Int, newest: Int,
) -> int:  # fmt: skip
    """The route number of a path of `steps` links, new where the pair (column `there`) had no such path before."""
    for k in range(steps + 1):
        if number[path[k]] < 0:
            number[path[k]] = totals[0]
            totals[0] += 1
    known = newest[there]
    while known > 0:
        begin = first[known]
        if first[known + 1] - begin == steps + 1:
            same = True
            for k in range(1, steps):
                if node[begin + k] != number[path[k]]:
                    same = False
                    break
            if same:
                return int(known)
        known = older[known]
    found, used = totals[1] + 1, totals[2]
    first[found], first[found + 1], first[found + 2] = used, used + steps + 1, used + 2 * steps + 2
    for k in range(steps + 1):
        node[used + k] = number[path[k]]
        node[used + 2 * steps + 1 - k] = number[path[k]]
    totals[1], totals[2] = found + 1, used + 2 * steps + 2
    older[found] = newest[there]
    newest[there] = found
    return int(found)


@compiled
def follow(
    place: int, mapped: Int, distance: Float, previous: NDArray[np.int32], hops: NDArray[np.int32], key: Int,
    rate: Float, number: Int, totals: Int, first: Int, node: NDArray[np.uint32], older: Int, newest: Int,
    row_delay: Float, row_rate: Float, row_hops: Int, row_route: Int,
) -> None:  # fmt: skip
    """The paths from mapped node number `place` to those after it, both ways.

    Args:
        distance, previous, hops: [nodes] the tree of that node. key: [E] of links, rising; rate: [E] theirs.
    """
    nodes, others = distance.size, mapped.size - 1
    link_rate = np.zeros(nodes)
    for end in range(nodes):
        before = previous[end]
        if before >= 0:
            low, high = min(before, end), max(before, end)
            link_rate[end] = rate[np.searchsorted(key, low * nodes + high)]
    path = np.zeros(nodes + 1, np.int64)
    for goal_place in range(place + 1, mapped.size):
        goal = mapped[goal_place]
        if not np.isfinite(distance[goal]):
            continue
        steps, at, slowest = int(hops[goal]), goal, np.inf
        for k in range(steps, -1, -1):
            path[k] = at
            if k > 0:
                slowest = min(slowest, link_rate[at])
                at = previous[at]
        there, back = place * others + goal_place - 1, goal_place * others + place
        route = note(path, steps, there, number, totals, first, node, older, newest)
        row_delay[there] = row_delay[back] = distance[goal]
        row_rate[there] = row_rate[back] = slowest
        row_hops[there] = row_hops[back] = steps
        row_route[there], row_route[back] = route, route + 1
