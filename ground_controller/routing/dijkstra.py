"""The loops of `shortest`: Dijkstra (1959) with a binary heap, compiled and plain. Arguments are checked there."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from ground_controller.compiled import compiled

Float = NDArray[np.float64]
Int = NDArray[np.int32]


def tree_plain(
    first: NDArray[np.int64], target: Int, link: Int, weight: Float, distance: Float, previous: Int, hops: Int
) -> None:
    """One tree from the nodes whose `distance` is finite; fills the last three, -1 in `previous` and `hops` before."""
    rows, goals, links = first.tolist(), target.tolist(), link.tolist()
    best: list[float] = distance.tolist()
    settled = [False] * (len(rows) - 1)
    costs: list[float] = weight.tolist()
    queue: list[tuple[float, int]] = []
    for node, there in enumerate(best):
        if there < np.inf:
            hops[node] = 0
            heappush(queue, (there, node))
    while queue:
        here, node = heappop(queue)
        if settled[node]:
            continue
        settled[node] = True
        for entry in range(rows[node], rows[node + 1]):
            reached, goal = here + costs[links[entry]], goals[entry]
            if reached < best[goal]:
                best[goal], previous[goal], hops[goal] = reached, node, hops[node] + 1
                heappush(queue, (reached, goal))
    distance[:] = best


@compiled
def tree_compiled(
    first: NDArray[np.int64], target: Int, link: Int, weight: Float, distance: Float, previous: Int, hops: Int
) -> None:
    """As `tree_plain`, with a binary heap that knows each node's place, so that it holds a node once."""
    heap = np.empty(first.size, np.int32)
    place = np.full(first.size, -1, np.int32)  # -1: never in the heap; -2: settled
    size = 0
    for root in range(first.size - 1):
        if distance[root] == np.inf:
            continue
        hops[root], at = 0, size
        size += 1
        while at > 0:
            parent = (at - 1) // 2
            above = heap[parent]
            if distance[above] <= distance[root]:  # the seeds come in the order of their numbers
                break
            heap[at], place[above], at = above, at, parent
        heap[at], place[root] = root, at
    while size > 0:
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


def seeded_plain(
    first: NDArray[np.int64], target: Int, link: Int, weight: Float, distance: Float, previous: Int, hops: Int
) -> None:
    for k in range(distance.shape[0]):
        tree_plain(first, target, link, weight, distance[k], previous[k], hops[k])


@compiled
def seeded_compiled(
    first: NDArray[np.int64], target: Int, link: Int, weight: Float, distance: Float, previous: Int, hops: Int
) -> None:
    for k in range(distance.shape[0]):
        tree_compiled(first, target, link, weight, distance[k], previous[k], hops[k])
