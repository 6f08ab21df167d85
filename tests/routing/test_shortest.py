"""Shortest paths: compiled and plain agree to the bit, and with an independent library."""

from __future__ import annotations

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ground_controller.compiled import COMPILED
from ground_controller.routing import dijkstra
from ground_controller.routing.shortest import (
    Graph,
    directed,
    route,
    seeded_trees,
    shortest_trees,
    undirected,
)  # fmt: skip

compiled_only = pytest.mark.skipif(not COMPILED, reason="numba is not installed (or HIL_COMPILED=0): one form only")


def drawn(seed: int, nodes: int, links: int, two_way: bool) -> tuple[Graph, np.ndarray, list[tuple[int, int]]]:
    """A random graph with whole weights, so that ties are common, some links down, some parallel."""
    rng = np.random.default_rng(seed)
    ends = [(int(a), int(b)) for a, b in rng.integers(0, nodes, (links, 2)) if a != b]
    a, b = [x for x, _ in ends], [y for _, y in ends]
    weight = rng.integers(0, 5, len(ends)).astype(float)
    weight[rng.random(len(ends)) < 0.2] = np.inf
    return (undirected if two_way else directed)(nodes, a, b), weight, ends


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 25), st.integers(1, 80), st.booleans())
def test_trees_are_those_of_networkx(seed: int, nodes: int, links: int, two_way: bool) -> None:
    graph, weight, ends = drawn(seed, nodes, links, two_way)
    reference = nx.MultiGraph() if two_way else nx.MultiDiGraph()
    reference.add_nodes_from(range(nodes))
    reference.add_weighted_edges_from((a, b, w) for (a, b), w in zip(ends, weight, strict=True) if np.isfinite(w))
    trees = shortest_trees(graph, weight, np.arange(nodes))
    for source in range(nodes):
        wanted = nx.single_source_dijkstra_path_length(reference, source)
        assert {n: d for n, d in enumerate(trees.distance[source]) if np.isfinite(d)} == wanted
        for goal in range(nodes):
            path = route(trees.previous[source], source, goal)
            assert len(path) - 1 == trees.hops[source, goal] if goal in wanted else path == ()
            total = 0.0
            for u, v in pairwise(path):
                total += min(edge["weight"] for edge in reference[u][v].values())
            if path:
                assert total == wanted[goal]


@compiled_only
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 25), st.integers(1, 80), st.booleans())
def test_compiled_and_plain_agree_to_the_bit(seed: int, nodes: int, links: int, two_way: bool) -> None:
    graph, whole, _ = drawn(seed, nodes, links, two_way)
    rng = np.random.default_rng(seed)
    delay = np.stack([whole, whole + rng.random(whole.size)])
    ends = rng.permutation(nodes)[: min(nodes, 5)]
    for weight in delay:
        trees = shortest_trees(graph, weight, ends)
        for k, end in enumerate(ends):
            plain = np.full(nodes, np.inf), np.full(nodes, -1, np.int32), np.full(nodes, -1, np.int32)
            plain[0][end] = 0.0
            dijkstra.tree_plain(graph.first, graph.target, graph.link, weight, *plain)
            for ours, its in zip(plain, (trees.distance[k], trees.previous[k], trees.hops[k]), strict=True):
                assert (ours == its).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_seeds_are_a_node_more(seed: int, two_way: bool) -> None:
    """A place joined to some nodes is one more node with one-way links to them."""
    rng = np.random.default_rng(seed)
    graph, whole, ends = drawn(seed, 15, 40, two_way)
    offset = rng.integers(0, 6, (2, 15)).astype(float)
    offset[rng.random(offset.shape) < 0.6] = np.inf
    trees = seeded_trees(graph, whole, offset)
    both = [*ends, *((b, a) for a, b in ends)] if two_way else ends
    twice = np.r_[whole, whole] if two_way else whole
    for k in range(2):
        joined = np.flatnonzero(np.isfinite(offset[k]))
        wider = directed(16, [a for a, _ in both] + [15] * joined.size, [b for _, b in both] + joined.tolist())
        one = shortest_trees(wider, np.r_[twice, offset[k, joined]], [15])
        assert (one.distance[0, :15] == trees.distance[k]).all()
        for node in range(15):
            before = int(trees.previous[k, node])
            if before >= 0:
                assert trees.hops[k, node] == trees.hops[k, before] + 1
                steps = [w for (a, b), w in zip(both, twice, strict=True) if (a, b) == (before, node)]
                assert trees.distance[k, node] == trees.distance[k, before] + min(steps)
            elif np.isfinite(trees.distance[k, node]):
                assert trees.distance[k, node] == offset[k, node] and trees.hops[k, node] == 0
    plain = offset.copy(), np.full(offset.shape, -1, np.int32), np.full(offset.shape, -1, np.int32)
    dijkstra.seeded_plain(graph.first, graph.target, graph.link, whole, *plain)
    for ours, its in zip(plain, trees, strict=True):
        assert (ours == its).all()


def test_input_is_checked() -> None:
    ring = undirected(3, [0, 1, 2], [1, 2, 0])
    for weight in ([1.0, 2.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0], [[1.0, 1.0, 1.0]]):
        with pytest.raises(ValueError, match="weight"):
            shortest_trees(ring, weight, [0])
    with pytest.raises(ValueError, match="from 0 to 2"):
        shortest_trees(ring, [1.0] * 3, [3])
    with pytest.raises(ValueError, match="wanted 0 to 1"):
        directed(2, [0], [2])
    with pytest.raises(ValueError, match="two equal rows"):
        directed(2, [0], [1, 1])
