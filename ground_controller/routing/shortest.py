"""Shortest paths over the links of a constellation (Dijkstra 1959), compiled by numba or plain, equal to the bit.

A graph is built once; weights are given per instant, so a day of snapshots costs no rebuilding. A link that is
down has the weight infinity. Among equally short paths the one found first wins, where nodes are settled in the
order (distance, number) and links leave a node in the order they were given: both forms agree on every tie.

    grid = undirected(1584, a, b)                      # a, b: [L] ends of each link
    trees = shortest_trees(grid, delay_s, sources)     # delay_s: [L]
    pairs = between(grid, delay_s, rate_bit_s, ends)   # [T, L] each: end to end between mapped satellites
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ground_controller.compiled import COMPILED, compiled

Float = NDArray[np.float64]
Int = NDArray[np.int32]


class Graph(NamedTuple):
    """Links of N nodes in compressed rows: those that leave node n are entries `first[n]:first[n + 1]`.

    first: [N + 1] int64; target: [E] int32, where an entry leads; link: [E] int32, its column in the weights.
    `symmetric`: every link works both ways at one weight (E is then twice the number of links).
    """

    nodes: int
    first: NDArray[np.int64]
    target: Int
    link: Int
    symmetric: bool


class Trees(NamedTuple):
    """Shortest paths from K sources to all N nodes.

    distance: [K, N] float64, infinity where there is no path; hops: [K, N] int32, -1 there;
    previous: [K, N] int32, the node before the last on the path, -1 at the source and where there is none.
    """

    distance: Float
    previous: Int
    hops: Int


class Between(NamedTuple):
    """Paths between K ends at T instants, each [T, K, K], from the first index to the second.

    delay_s: float64, infinity where there is no path, 0 on the diagonal. rate_bit_s: float64, the slowest link's,
    0 where there is no path, infinity on the diagonal. hops: int32, -1 where there is no path.
    via: int32, the index (in `ends`) of the first end that the path meets after it left; the goal's own index if
    it meets no other; -1 where there is no path, the own index on the diagonal.
    """

    delay_s: Float
    rate_bit_s: Float
    hops: Int
    via: Int


def directed(nodes: int, source: ArrayLike, target: ArrayLike) -> Graph:
    """A graph of one-way links; weight column l belongs to source[l] -> target[l].

    Raises:
        ValueError: the ends are not two equally long rows of node numbers in 0..nodes-1.
    """
    a, b = _ends(nodes, source, target)
    return _rows(nodes, a, b, np.arange(a.size), symmetric=False)


def undirected(nodes: int, one: ArrayLike, other: ArrayLike) -> Graph:
    """A graph of two-way links; weight column l belongs to one[l] <-> other[l]. Raises as `directed`."""
    a, b = _ends(nodes, one, other)
    links = np.arange(a.size)
    return _rows(nodes, np.r_[a, b], np.r_[b, a], np.r_[links, links], symmetric=True)


def _ends(nodes: int, source: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    a, b = np.asarray(source, dtype=np.int64), np.asarray(target, dtype=np.int64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"ends of links have shapes {a.shape} and {b.shape}, wanted two equal rows")
    for ends in (a, b):
        if ends.size and (ends.min() < 0 or ends.max() >= nodes):
            raise ValueError(f"links name nodes {ends.min()} to {ends.max()}, wanted 0 to {nodes - 1}")
    return a, b


def _rows(nodes: int, a: NDArray[np.int64], b: NDArray[np.int64], link: NDArray[np.int64], symmetric: bool) -> Graph:
    order = np.argsort(a, kind="stable")
    first = np.zeros(nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(a, minlength=nodes), out=first[1:])
    return Graph(nodes, first, b[order].astype(np.int32), link[order].astype(np.int32), symmetric)


def _weights(graph: Graph, weight: ArrayLike, dimensions: int, what: str) -> Float:
    array = np.ascontiguousarray(weight, dtype=np.float64)
    links = graph.link.size // 2 if graph.symmetric else graph.link.size
    if array.ndim != dimensions or array.shape[-1] != links:
        raise ValueError(f"{what} has shape {array.shape}, wanted {dimensions} dimensions with {links} links last")
    if not (array >= 0.0).all():
        raise ValueError(f"{what} holds a value below 0 or NaN; a link that is down weighs infinity")
    return array


def _numbers(graph: Graph, nodes: ArrayLike) -> NDArray[np.int64]:
    array = np.ascontiguousarray(nodes, dtype=np.int64)
    if array.ndim != 1 or (array.size and (array.min() < 0 or array.max() >= graph.nodes)):
        raise ValueError(f"nodes {array.tolist()}: wanted a row of numbers from 0 to {graph.nodes - 1}")
    return array


def shortest_trees(graph: Graph, weight: ArrayLike, sources: ArrayLike) -> Trees:
    """Shortest paths from each of `sources` to every node.

    Args:
        weight: [L] at least 0 each; infinity: the link is down.
        sources: [K] node numbers.

    Raises:
        ValueError: shapes or values are not as said.
    """
    weights, roots = _weights(graph, weight, 1, "weight"), _numbers(graph, sources)
    shape = (roots.size, graph.nodes)
    found = Trees(np.full(shape, np.inf), np.full(shape, -1, np.int32), np.full(shape, -1, np.int32))
    wanted = np.zeros(graph.nodes, dtype=np.bool_)
    for k, root in enumerate(roots):
        row = (found.distance[k], found.previous[k], found.hops[k])
        tree = _tree_compiled if COMPILED else _tree_plain
        tree(graph.first, graph.target, graph.link, weights, int(root), wanted, -1, *row)
    return found


def route(previous: Int, source: int, goal: int) -> tuple[int, ...]:
    """The nodes of a path, both ends included, from one row of `Trees.previous`; empty where there is none."""
    nodes = [goal]
    while nodes[-1] != source:
        before = int(previous[nodes[-1]])
        if before < 0:
            return ()
        nodes.append(before)
    return tuple(reversed(nodes))


def between(graph: Graph, delay_s: ArrayLike, rate_bit_s: ArrayLike, ends: ArrayLike) -> Between:
    """The whole graph reduced to the paths of least delay between a few of its nodes, at T instants.

    Args:
        delay_s: [T, L] one-way delay of each link; infinity: down.
        rate_bit_s: [T, L] or [L] rate of each link.
        ends: [K] different node numbers.

    A search stops when it has met every end, so mapped satellites close to one another cost little. In a
    symmetric graph each pair is searched once and holds both ways.

    Raises:
        ValueError: shapes or values are not as said.
    """
    delays = _weights(graph, delay_s, 2, "delay_s")
    rates = _weights(graph, np.broadcast_to(np.asarray(rate_bit_s, np.float64), delays.shape), 2, "rate_bit_s")
    nodes = _numbers(graph, ends)
    if np.unique(nodes).size != nodes.size:
        raise ValueError(f"ends {nodes.tolist()}: wanted different nodes")
    shape = (delays.shape[0], nodes.size, nodes.size)
    found = Between(np.full(shape, np.inf), np.zeros(shape), np.full(shape, -1, np.int32), np.full(shape, -1, np.int32))
    work = _between_compiled if COMPILED else _between_plain
    work(graph.first, graph.target, graph.link, graph.symmetric, delays, rates, nodes, *found)
    return found


def _tree_plain(
    first: NDArray[np.int64], target: Int, link: Int, weight: Float, root: int,
    wanted: NDArray[np.bool_], count: int, distance: Float, previous: Int, hops: Int,
) -> None:  # fmt: skip
    """One tree; stops when `count` of the `wanted` nodes are settled (-1: never). Fills the last three."""
    rows, goals, links = first.tolist(), target.tolist(), link.tolist()
    best = [np.inf] * (len(rows) - 1)
    settled = [False] * (len(rows) - 1)
    costs: list[float] = weight.tolist()
    best[root], hops[root] = 0.0, 0
    queue = [(0.0, root)]
    while queue and count != 0:
        here, node = heappop(queue)
        if settled[node]:
            continue
        settled[node] = True
        count -= bool(wanted[node])
        for entry in range(rows[node], rows[node + 1]):
            reached, goal = here + costs[links[entry]], goals[entry]
            if reached < best[goal]:
                best[goal], previous[goal], hops[goal] = reached, node, hops[node] + 1
                heappush(queue, (reached, goal))
    distance[:] = best


@compiled
def _tree_compiled(
    first: NDArray[np.int64], target: Int, link: Int, weight: Float, root: int,
    wanted: NDArray[np.bool_], count: int, distance: Float, previous: Int, hops: Int,
) -> None:  # fmt: skip
    """As `_tree_plain`, with a binary heap that knows each node's place, so that it holds a node once."""
    heap = np.empty(first.size, np.int32)
    place = np.full(first.size, -1, np.int32)  # -1: never in the heap; -2: settled
    distance[root], hops[root] = 0.0, 0
    heap[0], place[root], size = root, 0, 1
    while size > 0 and count != 0:
        node = heap[0]
        place[node] = -2
        size -= 1
        if size > 0:  # the last one sinks from the top
            moved, at = heap[size], 0
            while True:
                child = 2 * at + 1
                if child >= size:
                    break
                left = heap[child]
                if child + 1 < size:
                    right = heap[child + 1]
                    if distance[right] < distance[left] or (distance[right] == distance[left] and right < left):
                        child, left = child + 1, right
                if distance[left] < distance[moved] or (distance[left] == distance[moved] and left < moved):
                    heap[at], place[left], at = left, at, child
                else:
                    break
            heap[at], place[moved] = moved, at
        if wanted[node]:
            count -= 1
        here = distance[node]
        for entry in range(first[node], first[node + 1]):
            goal, reached = target[entry], here + weight[link[entry]]
            if reached < distance[goal] and place[goal] != -2:
                distance[goal], previous[goal], hops[goal] = reached, node, hops[node] + 1
                at = place[goal]
                if at == -1:
                    at = size
                    size += 1
                while at > 0:  # it rises to where its parent is nearer
                    parent = (at - 1) // 2
                    above = heap[parent]
                    if distance[above] < reached or (distance[above] == reached and above < goal):
                        break
                    heap[at], place[above], at = above, at, parent
                heap[at], place[goal] = goal, at


def _walk(
    first: NDArray[np.int64], target: Int, link: Int, delay: Float, rate: Float,
    previous: Int, number: Int, start: int, goal: int,
) -> tuple[float, int, int]:  # fmt: skip
    """(slowest rate, first end met after `start`, last end met before `goal`) of one path of a finished tree."""
    slowest, node = np.inf, goal
    there, back = number[goal], -1
    while node != start:
        before, taken = previous[node], -1
        for entry in range(first[before], first[before + 1]):  # of parallel links the search took the fastest
            if target[entry] == node and (taken < 0 or delay[link[entry]] < delay[link[taken]]):
                taken = entry
        slowest = min(slowest, rate[link[taken]])
        node = before
        if number[node] >= 0:
            if back < 0:
                back = number[node]
            if node != start:
                there = number[node]
    return slowest, there, back


_walk_compiled = compiled(_walk)


def _between_plain(
    first: NDArray[np.int64], target: Int, link: Int, symmetric: bool, delay: Float, rate: Float,
    ends: NDArray[np.int64], out_delay: Float, out_rate: Float, out_hops: Int, out_via: Int,
) -> None:  # fmt: skip
    number = np.full(first.size - 1, -1, np.int32)
    number[ends] = np.arange(ends.size)
    for t in range(delay.shape[0]):
        wanted = number >= 0
        for i, start in enumerate(ends):
            distance, previous = np.full(number.size, np.inf), np.full(number.size, -1, np.int32)
            hops = np.full(number.size, -1, np.int32)
            tree = (distance, previous, hops)
            _tree_plain(first, target, link, delay[t], int(start), wanted, int(wanted.sum()), *tree)
            out_delay[t, i, i], out_rate[t, i, i], out_hops[t, i, i], out_via[t, i, i] = 0.0, np.inf, 0, i
            for j in range(i + 1 if symmetric else 0, ends.size):
                if j == i or distance[ends[j]] == np.inf:
                    continue
                slowest, there, back = _walk(
                    first, target, link, delay[t], rate[t], previous, number, start, ends[j]
                )  # fmt: skip
                for a, b, via in ((i, j, there), (j, i, back))[: 2 if symmetric else 1]:
                    out_delay[t, a, b], out_rate[t, a, b] = distance[ends[j]], slowest
                    out_hops[t, a, b], out_via[t, a, b] = hops[ends[j]], via
            wanted[start] = wanted[start] and not symmetric  # its pairs are done


@compiled
def _between_compiled(
    first: NDArray[np.int64], target: Int, link: Int, symmetric: bool, delay: Float, rate: Float,
    ends: NDArray[np.int64], out_delay: Float, out_rate: Float, out_hops: Int, out_via: Int,
) -> None:  # fmt: skip
    """As `_between_plain`."""
    number = np.full(first.size - 1, -1, np.int32)
    for k in range(ends.size):
        number[ends[k]] = k
    distance, previous = np.empty(number.size), np.empty(number.size, np.int32)
    hops, wanted = np.empty(number.size, np.int32), np.empty(number.size, np.bool_)
    for t in range(delay.shape[0]):
        wanted[:] = number >= 0
        for i in range(ends.size):
            start = ends[i]
            distance[:], previous[:], hops[:] = np.inf, -1, -1
            _tree_compiled(first, target, link, delay[t], start, wanted, wanted.sum(), distance, previous, hops)
            out_delay[t, i, i], out_rate[t, i, i], out_hops[t, i, i], out_via[t, i, i] = 0.0, np.inf, 0, i
            for j in range(i + 1 if symmetric else 0, ends.size):
                goal = ends[j]
                if j == i or distance[goal] == np.inf:
                    continue
                slowest, there, back = _walk_compiled(
                    first, target, link, delay[t], rate[t], previous, number, start, goal
                )  # fmt: skip
                out_delay[t, i, j], out_rate[t, i, j] = distance[goal], slowest
                out_hops[t, i, j], out_via[t, i, j] = hops[goal], there
                if symmetric:
                    out_delay[t, j, i], out_rate[t, j, i] = distance[goal], slowest
                    out_hops[t, j, i], out_via[t, j, i] = hops[goal], back
            if symmetric:
                wanted[start] = False
