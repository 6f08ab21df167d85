"""Shortest paths over the links of a constellation (Dijkstra 1959), compiled by numba or plain, equal to the bit.

A graph is built once; weights are given per instant, so a day of snapshots costs no rebuilding. A link that is
down has the weight infinity. Among equally short paths the one found first wins, where nodes are settled in the
order (distance, number) and links leave a node in the order they were given: both forms agree on every tie.

    grid = undirected(1584, a, b)                   # a, b: [L] ends of each link
    trees = shortest_trees(grid, delay_s, sources)  # delay_s: [L]
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ground_controller.compiled import COMPILED
from ground_controller.routing import dijkstra

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


def _weights(graph: Graph, weight: ArrayLike) -> Float:
    array = np.ascontiguousarray(weight, dtype=np.float64)
    links = graph.link.size // 2 if graph.symmetric else graph.link.size
    if array.shape != (links,):
        raise ValueError(f"weight has shape {array.shape}, wanted one value for each of {links} links")
    if not (array >= 0.0).all():
        raise ValueError("weight holds a value below 0 or NaN; a link that is down weighs infinity")
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
    weights, roots = _weights(graph, weight), _numbers(graph, sources)
    shape = (roots.size, graph.nodes)
    found = Trees(np.full(shape, np.inf), np.full(shape, -1, np.int32), np.full(shape, -1, np.int32))
    tree = dijkstra.tree_compiled if COMPILED else dijkstra.tree_plain
    for k, root in enumerate(roots):
        found.distance[k, root] = 0.0
        row = (found.distance[k], found.previous[k], found.hops[k])
        tree(graph.first, graph.target, graph.link, weights, *row)
    return found


def seeded_trees(graph: Graph, weight: ArrayLike, offset: ArrayLike) -> Trees:
    """Shortest paths from K places outside the graph, each joined to some of its nodes.

    Args:
        weight: as in `shortest_trees`.
        offset: [K, N] from each place to each node directly; infinity: not joined.

    The place itself is not in the result: `hops` counts links of the graph, `previous` is -1 at nodes that the
    place reaches directly. In a symmetric graph `previous` is then the next hop towards the place.

    Raises:
        ValueError: shapes or values are not as said.
    """
    weights = _weights(graph, weight)
    offsets = np.ascontiguousarray(offset, dtype=np.float64)
    if offsets.ndim != 2 or offsets.shape[1] != graph.nodes or not (offsets >= 0.0).all():
        raise ValueError(f"offset has shape {offsets.shape}, wanted [K, {graph.nodes}] of values from 0")
    found = Trees(offsets.copy(), np.full(offsets.shape, -1, np.int32), np.full(offsets.shape, -1, np.int32))
    tree = dijkstra.seeded_compiled if COMPILED else dijkstra.seeded_plain
    tree(graph.first, graph.target, graph.link, weights, *found)
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
