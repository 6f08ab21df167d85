"""Placement by rank: the busiest experts on the nodes with the shortest paths (arXiv 2605.00515).

For one layer, expert e is used with probability p_e and a host s costs c_s = D(g_l, s) + D(s, g_{l+1}), the
expected path from this layer's gateway through s to the next layer's (the last layer's path returns to its
own gateway, which runs the head). Expected path time sum p_e c_s(e) is least when experts in falling p
meet slots in rising c, by the rearrangement inequality.

The paper gives each satellite one expert. Boards hold several, so each layer first gives every node its
number of slots, round robin from the nearest within the node's memory; ranks are then matched with those
slots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.view import Placement, PlacementProblem
from hil_config.errors import ConfigError
from hil_config.wire.plan import GatewaySlice

Copies = list[list[list[int]]]


@dataclass(frozen=True)
class RankMatch:
    """Nodes of equal cost are taken in the order of their names, so node order does not matter."""

    name: ClassVar[str] = "rank_match"

    def place(self, problem: PlacementProblem) -> Placement:
        """Gateways, one primary for every expert, then `replicas` further copies where memory allows."""
        _check(problem)
        central = _central(problem)
        gateways = _slices(problem, central)
        orders = _orders(problem, gateways)
        ranks = [_ranking(problem.model.activation[layer]) for layer in range(problem.model.layers)]
        free = list(problem.slots)
        copies: Copies = [_primaries(problem, layer, orders[layer], ranks[layer], free) for layer in range(len(ranks))]
        missing = _replicate(problem, orders, ranks, free, copies)
        holders = tuple(tuple(tuple(held) for held in layer) for layer in copies)
        return Placement(gateways, holders, _reason(problem, gateways, orders, missing))


def _check(problem: PlacementProblem) -> None:
    wanted, slots = problem.model.layers * problem.model.experts, sum(problem.slots)
    if not problem.nodes or len(set(problem.nodes)) != len(problem.nodes):
        raise ConfigError(f"policy rank_match: nodes {problem.nodes}: wanted at least one, names all different")
    if not 1 <= problem.trunk_slices <= problem.model.layers:
        raise ConfigError(
            f"policy rank_match: trunk_slices is {problem.trunk_slices}, wanted 1 to {problem.model.layers} (layers)"
        )
    if problem.replicas < 0 or min(problem.slots) < 0:
        raise ConfigError(f"policy rank_match: replicas {problem.replicas} or slots {problem.slots} below 0")
    if slots < wanted:
        raise ConfigError(
            f"policy rank_match: {wanted} experts ({problem.model.layers} layers of {problem.model.experts})"
            f" do not fit the {slots} slots of {len(problem.nodes)} nodes",
            "add nodes, raise their memory or use a smaller precision",
        )


def _central(problem: PlacementProblem) -> list[int]:
    """Nodes by falling centrality: rising sum of expected delay to and from all others."""
    delay = problem.expected_delay_s
    total = [math.fsum([*delay[node, :], *delay[:, node]]) for node in range(len(problem.nodes))]
    return sorted(range(len(problem.nodes)), key=lambda node: (total[node], problem.nodes[node]))


def _slices(problem: PlacementProblem, central: Sequence[int]) -> tuple[GatewaySlice, ...]:
    """Near-equal layer ranges. Primaries are the most central nodes, distinct while they last; standbys
    the next most central, so that a node has two trunk roles only when there are too few nodes."""
    layers, pieces, nodes = problem.model.layers, problem.trunk_slices, len(central)
    answer = []
    for piece in range(pieces):
        first, end = piece * layers // pieces, (piece + 1) * layers // pieces
        primary = piece % nodes
        standby = (min(pieces, nodes) + piece) % nodes
        if standby == primary:
            standby = (primary + 1) % nodes
        names = tuple(problem.nodes[central[place]] for place in dict.fromkeys((primary, standby)))
        answer.append(GatewaySlice(first, end - 1, names))
    return tuple(answer)


def _orders(problem: PlacementProblem, gateways: Sequence[GatewaySlice]) -> list[list[int]]:
    """For each layer, nodes by rising expected path through them."""
    index = {name: node for node, name in enumerate(problem.nodes)}
    at = [index[piece.nodes[0]] for piece in gateways for _ in range(piece.first, piece.last + 1)]
    delay = problem.expected_delay_s
    orders = []
    for here, after in zip(at, [*at[1:], at[-1]], strict=True):
        path = delay[here, :] + delay[:, after]
        orders.append(sorted(range(len(problem.nodes)), key=lambda node: (float(path[node]), problem.nodes[node])))
    return orders


def _ranking(activation: Sequence[float]) -> list[int]:
    """Experts by falling activation, then by number."""
    return sorted(range(len(activation)), key=lambda expert: (-activation[expert], expert))


def _primaries(
    problem: PlacementProblem, layer: int, order: Sequence[int], ranking: Sequence[int], free: list[int]
) -> list[list[int]]:
    """One holder for each expert of a layer; takes slots from `free`.

    A node offers each layer its even part of what it has left, so that small nodes serve every layer.
    """
    left = problem.model.layers - layer
    offered = {node: -(-free[node] // left) for node in order}
    quota = dict.fromkeys(order, 0)
    given = 0
    while given < len(ranking):
        for node in order:
            if given < len(ranking) and quota[node] < offered[node]:
                quota[node] += 1
                given += 1
    slots = [node for node in order for _ in range(quota[node])]
    held: list[list[int]] = [[] for _ in ranking]
    for expert, node in zip(ranking, slots, strict=True):
        held[expert] = [node]
        free[node] -= 1
    return held


def _replicate(
    problem: PlacementProblem,
    orders: Sequence[Sequence[int]],
    ranks: Sequence[Sequence[int]],
    free: list[int],
    copies: Copies,
) -> int:
    """Add further copies, busiest experts of all layers first; returns how many found no room.

    A copy goes to the nearest of the nodes that so far have the fewest copies of this layer in this round,
    have room and do not hold the expert.
    """
    missing = 0
    for _ in range(problem.replicas):
        taken = [dict.fromkeys(order, 0) for order in orders]
        for rank in range(problem.model.experts):
            for layer, order in enumerate(orders):
                held = copies[layer][ranks[layer][rank]]
                open_to = [node for node in order if free[node] > 0 and node not in held]
                if not open_to:
                    missing += not _swap_in(held, copies, free)
                    continue
                node = min(open_to, key=lambda candidate: taken[layer][candidate])
                held.append(node)
                taken[layer][node] += 1
                free[node] -= 1
    return missing


def _swap_in(held: list[int], copies: Copies, free: list[int]) -> bool:
    """Place a copy although only nodes that hold the expert have room: another expert's copy moves there and
    gives up its place. False when no such move exists."""
    spare = [node for node in held if free[node] > 0]
    for other in (each for layer in copies for each in layer):
        for place in range(1, len(other)):
            target = next((node for node in spare if node not in other), None)
            if target is not None and other[place] not in held:
                held.append(other[place])
                other[place] = target
                free[target] -= 1
                return True
    return False


def _reason(
    problem: PlacementProblem, gateways: Sequence[GatewaySlice], orders: Sequence[Sequence[int]], missing: int
) -> str:
    trunk = ", ".join(f"layers {piece.first}-{piece.last} on {'/'.join(piece.nodes)}" for piece in gateways)
    nearest, furthest = problem.nodes[orders[0][0]], problem.nodes[orders[0][-1]]
    short = f"; {missing} of the wanted copies found no room" if missing else ""
    return (
        f"most central nodes as gateways ({trunk}); busiest experts of layer 0 nearest, on {nearest}, the"
        f" rarest on {furthest}; {problem.replicas} further copies each{short}"
    )
