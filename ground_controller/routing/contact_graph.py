"""Routes over a contact plan that change with time: earliest arrivals, and the best of equals (CCSDS 734.3-B, SABR).

A message of `size` bits at node u at time t can take a contact u -> v if it can be sent before the contact ends:

    leaves = max(t, start, busy until) + size / rate <= end,        arrives = leaves + one-way light time

Waiting never harms, so the earliest arrival over at most h contacts follows from that over h - 1. Routes that arrive
equally early are told apart by fewest contacts, then by the latest end of their first contact to end, then by the
smallest number of the neighbour they go to. Found label by label these keys would depend on the order of the search
(a node reached early over many contacts hides one reached later over few); here each key is fixed before the next.

The loops are compiled by numba, or run as plain Python: one text, the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ground_controller.compiled import compiled
from ground_controller.formats.plan import ContactPlan

Float = NDArray[np.float64]
Int = NDArray[np.int32]


@dataclass(frozen=True)
class ContactTable:
    """A plan as arrays [C], contacts grouped by their source (`first`: [N + 1]) and in the plan's order within.

    `contact[row]` is the index in `plan.contacts`. Contacts without a rate are left out: they carry nothing. One that
    stands twice counts once.
    """

    plan: ContactPlan
    nodes: tuple[str, ...]
    contact: NDArray[np.int64]
    first: NDArray[np.int64]
    source: Int
    target: Int
    start_s: Float
    end_s: Float
    rate_bit_s: Float
    delay_s: Float

    @property
    def number(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.nodes)}


def contact_table(plan: ContactPlan) -> ContactTable:
    """The arrays of a plan."""
    nodes = plan.nodes
    number = {name: index for index, name in enumerate(nodes)}
    once = {one: index for index, one in reversed(list(enumerate(plan.contacts))) if one.rate_bit_s > 0.0}
    rows = sorted(once.values())
    rows.sort(key=lambda index: number[plan.contacts[index].source])
    chosen = [plan.contacts[index] for index in rows]
    source = np.array([number[one.source] for one in chosen], dtype=np.int32)
    first = np.zeros(len(nodes) + 1, dtype=np.int64)
    np.cumsum(np.bincount(source, minlength=len(nodes)), out=first[1:])
    return ContactTable(
        plan, nodes, np.array(rows, dtype=np.int64), first, source,
        np.array([number[one.target] for one in chosen], dtype=np.int32),
        np.array([one.start_s for one in chosen]), np.array([one.end_s for one in chosen]),
        np.array([one.rate_bit_s for one in chosen]), np.array([one.delay_s for one in chosen]),
    )  # fmt: skip


class Layers(NamedTuple):
    """arrival[h, n]: earliest arrival at n over at most h contacts; taken[h, n]: row of the last of them, -1 where
    layer h - 1 was as early; layers: how many there are."""

    arrival: Float
    taken: Int
    layers: int


def _layers(
    first: NDArray[np.int64], target: Int, start: Float, end: Float, rate: Float, delay: Float, busy: Float,
    source: int, at_s: float, size_bit: float, ends_from: float, entry: int, arrival: Float, taken: Int,
) -> int:  # fmt: skip
    """Fill layers until nothing becomes earlier; contacts that end before `ends_from` are not used, and from the
    source only those to `entry` (-1: any). Returns the number of the last layer that changed something."""
    nodes = first.size - 1
    arrival[0, :] = np.inf
    arrival[0, source] = at_s
    taken[0, :] = -1
    last = 0
    for h in range(1, arrival.shape[0]):
        better = False
        arrival[h, :] = arrival[h - 1, :]
        taken[h, :] = -1
        for node in range(nodes):
            here = arrival[h - 1, node]
            if here == np.inf or (h > 1 and taken[h - 1, node] < 0):
                continue  # not reached, or no earlier than a layer ago: it has nothing new to tell
            for row in range(first[node], first[node + 1]):
                if end[row] < ends_from or (node == source and entry >= 0 and target[row] != entry):
                    continue
                leaves = max(here, start[row], busy[row]) + size_bit / rate[row]
                there = leaves + delay[row]
                if leaves <= end[row] and there < arrival[h, target[row]]:
                    arrival[h, target[row]], taken[h, target[row]] = there, row
                    better = True
        if not better:
            break
        last = h
    return last


def _earliest(
    first: NDArray[np.int64], target: Int, start: Float, end: Float, rate: Float, delay: Float,
    at_s: float, size_bit: float, arrival: Float,
) -> None:  # fmt: skip
    """arrival[s, n] for every source s: node by node in the order of (arrival, number), without layers."""
    nodes = first.size - 1
    settled = np.zeros(nodes, np.bool_)
    for source in range(nodes):
        settled[:] = False
        arrival[source, :] = np.inf
        arrival[source, source] = at_s
        while True:
            node, here = -1, np.inf
            for other in range(nodes):
                if not settled[other] and arrival[source, other] < here:
                    node, here = other, arrival[source, other]
            if node < 0:
                break
            settled[node] = True
            for row in range(first[node], first[node + 1]):
                goal = target[row]
                if settled[goal] or end[row] < here or start[row] >= arrival[source, goal]:
                    continue
                leaves = max(here, start[row]) + size_bit / rate[row]
                if leaves <= end[row] and leaves + delay[row] < arrival[source, goal]:
                    arrival[source, goal] = leaves + delay[row]


layers_plain, layers_compiled = _layers, compiled(_layers)
earliest_plain, earliest_compiled = _earliest, compiled(_earliest)


def earliest_arrivals(table: ContactTable, at_s: float, size_bit: float = 0.0) -> Float:
    """[N, N] when a message that is at the first node at `at_s` can be at the second; infinity: never."""
    arrival = np.empty((len(table.nodes),) * 2)
    earliest_compiled(
        table.first, table.target, table.start_s, table.end_s, table.rate_bit_s, table.delay_s, at_s, size_bit, arrival
    )
    return arrival


def layers_from(
    table: ContactTable, source: int, at_s: float, size_bit: float, busy_s: Float,
    ends_from_s: float = -np.inf, entry: int = -1,
) -> Layers:  # fmt: skip
    """Earliest arrivals from one node by number of contacts. busy_s: [C] until when each contact is booked."""
    nodes = len(table.nodes)
    arrival, taken = np.empty((nodes, nodes)), np.empty((nodes, nodes), np.int32)
    last = layers_compiled(
        table.first, table.target, table.start_s, table.end_s, table.rate_bit_s, table.delay_s, busy_s,
        source, at_s, size_bit, ends_from_s, entry, arrival, taken,
    )  # fmt: skip
    return Layers(arrival, taken, last + 1)


def path_in(table: ContactTable, layers: Layers, goal: int, most: int) -> list[int]:
    """Rows of the contacts, in order, of the earliest route to `goal` over at most `most` of them."""
    rows: list[int] = []
    h, node = most, goal
    while h > 0:
        row = int(layers.taken[h, node])
        h -= 1
        if row >= 0:
            rows.append(row)
            node = int(table.source[row])
    return rows[::-1]


def best_path(table: ContactTable, source: int, goal: int, at_s: float, size_bit: float, busy_s: Float) -> list[int]:
    """Rows of the best route by all four keys; empty where there is none."""
    layers = layers_from(table, source, at_s, size_bit, busy_s)
    earliest = layers.arrival[layers.layers - 1, goal]
    if earliest == np.inf or source == goal:
        return []
    hops = int(np.flatnonzero(layers.arrival[: layers.layers, goal] == earliest)[0])
    ends = np.unique(table.end_s)

    def reaches(ends_from_s: float, entry: int = -1) -> Layers | None:
        found = layers_from(table, source, at_s, size_bit, busy_s, ends_from_s, entry)
        most = min(hops, found.layers - 1)
        return found if found.arrival[most, goal] == earliest else None

    low, high = 0, ends.size - 1  # the latest end that every contact of some such route reaches
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if reaches(float(ends[middle])) else (low, middle - 1)
    neighbours = np.unique(table.target[table.first[source] : table.first[source + 1]])
    for entry in neighbours.tolist():
        found = reaches(float(ends[low]), entry)
        if found is not None:
            return path_in(table, found, goal, min(hops, found.layers - 1))
    raise AssertionError("a route that was found is not found again")
