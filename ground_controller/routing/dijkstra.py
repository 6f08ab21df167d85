"""The loops of `shortest`: Dijkstra (1959) with a binary heap, compiled and plain. Arguments are checked there."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from ground_controller.compiled import compiled

Float = NDArray[np.float64]
Int = NDArray[np.int32]


def tree_plain(
    first: NDArray[np.int64], target: Int, link: Int, weight: Float,
    wanted: NDArray[np.bool_], count: int, distance: Float, previous: Int, hops: Int,
) -> None:  # fmt: skip
    """One tree from the nodes whose `distance` is finite; fills the last three, -1 in `previous` and `hops` before.

    It stops when `count` of the `wanted` nodes are settled (-1: never).
    """
    rows, goals, links = first.tolist(), target.tolist(), link.tolist()
    best: list[float] = distance.tolist()
    settled = [False] * (len(rows) - 1)
    costs: list[float] = weight.tolist()
    queue: list[tuple[float, int]] = []
    for node, there in enumerate(best):
        if there < np.inf:
            hops[node] = 0
            heappush(queue, (there, node))
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
def tree_compiled(
    first: NDArray[np.int64], target: Int, link: Int, weight: Float,
    wanted: NDArray[np.bool_], count: int, distance: Float, previous: Int, hops: Int,
) -> None:  # fmt: skip
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


def walk(
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


def seeded_plain(
    first: NDArray[np.int64], target: Int, link: Int, weight: Float, distance: Float, previous: Int, hops: Int
) -> None:
    for k in range(distance.shape[0]):
        none = np.zeros(distance.shape[1], np.bool_)
        tree_plain(first, target, link, weight, none, -1, distance[k], previous[k], hops[k])


@compiled
def seeded_compiled(
    first: NDArray[np.int64], target: Int, link: Int, weight: Float, distance: Float, previous: Int, hops: Int
) -> None:
    none = np.zeros(distance.shape[1], np.bool_)
    for k in range(distance.shape[0]):
        tree_compiled(first, target, link, weight, none, -1, distance[k], previous[k], hops[k])


walk_compiled = compiled(walk)


def between_plain(
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
            distance[start] = 0.0
            tree_plain(first, target, link, delay[t], wanted, int(wanted.sum()), distance, previous, hops)
            out_delay[t, i, i], out_rate[t, i, i], out_hops[t, i, i], out_via[t, i, i] = 0.0, np.inf, 0, i
            for j in range(i + 1 if symmetric else 0, ends.size):
                if j == i or distance[ends[j]] == np.inf:
                    continue
                slowest, there, back = walk(
                    first, target, link, delay[t], rate[t], previous, number, start, ends[j]
                )  # fmt: skip
                for a, b, via in ((i, j, there), (j, i, back))[: 2 if symmetric else 1]:
                    out_delay[t, a, b], out_rate[t, a, b] = distance[ends[j]], slowest
                    out_hops[t, a, b], out_via[t, a, b] = hops[ends[j]], via
            wanted[start] = wanted[start] and not symmetric  # its pairs are done


@compiled
def between_compiled(
    first: NDArray[np.int64], target: Int, link: Int, symmetric: bool, delay: Float, rate: Float,
    ends: NDArray[np.int64], out_delay: Float, out_rate: Float, out_hops: Int, out_via: Int,
) -> None:  # fmt: skip
    """As `between_plain`."""
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
            distance[start] = 0.0
            tree_compiled(first, target, link, delay[t], wanted, wanted.sum(), distance, previous, hops)
            out_delay[t, i, i], out_rate[t, i, i], out_hops[t, i, i], out_via[t, i, i] = 0.0, np.inf, 0, i
            for j in range(i + 1 if symmetric else 0, ends.size):
                goal = ends[j]
                if j == i or distance[goal] == np.inf:
                    continue
                slowest, there, back = walk_compiled(
                    first, target, link, delay[t], rate[t], previous, number, start, goal
                )  # fmt: skip
                out_delay[t, i, j], out_rate[t, i, j] = distance[goal], slowest
                out_hops[t, i, j], out_via[t, i, j] = hops[goal], there
                if symmetric:
                    out_delay[t, j, i], out_rate[t, j, i] = distance[goal], slowest
                    out_hops[t, j, i], out_via[t, j, i] = hops[goal], back
            if symmetric:
                wanted[start] = False
