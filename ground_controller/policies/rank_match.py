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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.placing import Copies, central_nodes, check_problem, cut_slices, layer_orders, replicate
from ground_controller.policies.view import Placement, PlacementProblem
from hil_config.wire.plan import GatewaySlice


@dataclass(frozen=True)
class RankMatch:
    """Nodes of equal cost are taken in the order of their names, so node order does not matter."""

    name: ClassVar[str] = "rank_match"

    def place(self, problem: PlacementProblem) -> Placement:
        """Gateways, one primary for every expert, then `replicas` further copies where memory allows."""
        check_problem(self.name, problem)
        central = central_nodes(problem)
        gateways = cut_slices(problem, central)
        orders = layer_orders(problem, gateways)
        ranks = [_ranking(problem.model.activation[layer]) for layer in range(problem.model.layers)]
        free = list(problem.slots)
        copies: Copies = [_primaries(problem, layer, orders[layer], ranks[layer], free) for layer in range(len(ranks))]
        missing = replicate(problem, orders, ranks, free, copies)
        holders = tuple(tuple(tuple(held) for held in layer) for layer in copies)
        return Placement(gateways, holders, _reason(problem, gateways, orders, missing))


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
