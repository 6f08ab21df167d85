"""Forwarding tables of a constellation at one instant, and what changes from one instant to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ground_controller.routing.shortest import Float, Graph, Int, seeded_trees, shortest_trees

DROPPED = -1


@dataclass(frozen=True)
class Forwarding:
    """Next hops towards G ground stations; satellites are nodes 0..S-1, stations S..S+G-1.

    next_hop: [G, S + G] int32, `DROPPED` where the station cannot be reached and at the station itself.
    distance: [G, S + G] float64 in the unit of the weights, infinity where it cannot be reached.
    """

    next_hop: Int
    distance: Float

    def path(self, source: int, station: int) -> tuple[int, ...]:
        """The nodes from a node to a station (0..G-1), both included; empty where it cannot be reached."""
        goal = self.next_hop.shape[1] - self.next_hop.shape[0] + station
        nodes = [source]
        while nodes[-1] != goal:
            after = int(self.next_hop[station, nodes[-1]])
            if after == DROPPED:
                return ()
            nodes.append(after)
        return tuple(nodes)


def forwarding(graph: Graph, isl: ArrayLike, ground: ArrayLike) -> Forwarding:
    """Shortest paths over satellites to each station; stations do not relay.

    Args:
        graph: two-way inter-satellite links.
        isl: [L] their lengths; infinity: down.
        ground: [G, S] length from each station to each satellite; infinity: not in range.

    Raises:
        ValueError: shapes or values are not as said, or the graph is directed.
    """
    if not graph.symmetric:
        raise ValueError("forwarding needs two-way links")
    down = np.ascontiguousarray(ground, dtype=np.float64)
    trees = seeded_trees(graph, isl, down)
    stations, satellites = down.shape
    next_hop = np.full((stations, satellites + stations), DROPPED, np.int32)
    distance = np.full(next_hop.shape, np.inf)
    own = (satellites + np.arange(stations, dtype=np.int32))[:, None]
    reached = np.isfinite(trees.distance)
    next_hop[:, :satellites] = np.where(reached & (trees.previous < 0), own, trees.previous)
    distance[:, :satellites] = trees.distance
    for source in range(stations):
        near = np.flatnonzero(np.isfinite(down[source]))
        if near.size:
            total = down[source, near] + trees.distance[:, near]
            best = total.argmin(axis=1)
            distance[:, satellites + source] = total[np.arange(stations), best]
            found = np.isfinite(distance[:, satellites + source])
            next_hop[found, satellites + source] = near[best][found]
    goals = np.arange(stations)
    next_hop[goals, satellites + goals], distance[goals, satellites + goals] = DROPPED, 0.0
    return Forwarding(next_hop, distance)


def changed_hops(before: Forwarding | None, after: Forwarding) -> Int:
    """[K, 3] rows of (station 0..G-1, node, next hop) that differ; all rows where there was nothing before."""
    if before is None:
        differs: NDArray[np.bool_] = np.ones(after.next_hop.shape, np.bool_)
    else:
        differs = before.next_hop != after.next_hop
    station, node = np.nonzero(differs)
    return np.stack([station, node, after.next_hop[differs]], axis=1).astype(np.int32)


def path_delays(graph: Graph, delay_s: ArrayLike) -> Float:
    """[N, N] least delay between all nodes at one instant; infinity: no path."""
    return shortest_trees(graph, delay_s, np.arange(graph.nodes)).distance


def expected_path_delays(graph: Graph, delay_s: ArrayLike) -> Float:
    """[N, N] mean over T snapshots of the least delay between all nodes, what placement weighs (arXiv 2605.00515).

    Args:
        delay_s: [T, L] of each link at each snapshot; infinity: down.

    A pair without a path in a snapshot counts as the longest path of that snapshot, so that the mean stays finite
    and such pairs look bad, not impossible.

    Raises:
        ValueError: shapes or values are not as said.
    """
    snapshots = np.asarray(delay_s, dtype=np.float64)
    if snapshots.ndim != 2 or not snapshots.shape[0]:
        raise ValueError(f"delay_s has shape {snapshots.shape}, wanted [T, L] with at least one snapshot")
    total = np.zeros((graph.nodes, graph.nodes))
    for one in snapshots:
        found = path_delays(graph, one)
        finite = np.isfinite(found)
        total += np.where(finite, found, found[finite].max())
    total /= snapshots.shape[0]
    return total
