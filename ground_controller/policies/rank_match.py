"""Placement by rank: the busiest experts on the nodes with the shortest paths (arXiv 2605.00515).

For one layer, expert e is used with probability p_e and a host s costs c_s = D(g_l, s) + D(s, g_{l+1}), the
expected path from this layer's gateway through s to the next layer's (the last layer's path returns to its
own gateway, which runs the head). Expected path time sum p_e c_s(e) is least when experts in falling p
meet slots in rising c, by the rearrangement inequality.

The paper gives each satellite one expert. Boards hold several, so each layer first gives every node its
number of slots, round robin from the nearest within the node's memory; ranks are then matched with those
slots.

The paper also cuts the constellation into ring subnets, one a slice, each with its most central satellite as the
gateway: `in_ring`. Without it gateways are the most central of all nodes and every node may hold every expert, which
suits a bench of a few boards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.placing import (
    Copies,
    central_nodes,
    check_problem,
    cut_slices,
    free_slots,
    layer_orders,
    ranking,
    replicate,
    ring_subnets,
)
from ground_controller.policies.view import Placement, PlacementProblem
from hil_config.wire.plan import GatewaySlice


@dataclass(frozen=True)
class RankMatch:
    """Nodes of equal cost are taken in the order of their names, so node order does not matter."""

    name: ClassVar[str] = "rank_match"
    in_ring: bool = False

    def place(self, problem: PlacementProblem) -> Placement:
        """Gateways, one primary for every expert, then `replicas` further copies where memory allows."""
        check_problem(self.name, problem)
        central = central_nodes(problem)
        subnets = [set(piece) for piece in ring_subnets(problem)] if self.in_ring else None
        gateways = _ring_gateways(problem, subnets, central) if subnets else cut_slices(problem, central)
        orders = layer_orders(problem, gateways)
        ranks = [ranking(problem.model.activation[layer]) for layer in range(problem.model.layers)]
        free = free_slots(problem, gateways)
        copies: Copies = []
        for piece, cut in enumerate(gateways):
            for layer in range(cut.first, cut.last + 1):
                # Layers that still share the nodes: all of them, or those of the subnet's slice.
                left = (cut.last + 1 if subnets else problem.model.layers) - layer
                if subnets:
                    orders[layer] = _inside_first(orders[layer], subnets[piece])
                copies.append(_primaries(orders[layer], ranks[layer], free, left, subnets[piece] if subnets else None))
        missing = replicate(problem, orders, ranks, free, copies)
        holders = tuple(tuple(tuple(held) for held in layer) for layer in copies)
        return Placement(gateways, holders, _reason(problem, gateways, orders, missing))


def _inside_first(order: Sequence[int], near: set[int]) -> list[int]:
    return [*(node for node in order if node in near), *(node for node in order if node not in near)]


def _ring_gateways(
    problem: PlacementProblem, subnets: Sequence[set[int]], central: Sequence[int]
) -> tuple[GatewaySlice, ...]:
    """For each subnet its most central node; with dedicated gateways, one that serves no other slice first."""
    answer: list[GatewaySlice] = []
    taken: set[int] = set()
    for piece, near in enumerate(subnets):
        layers, pieces = problem.model.layers, problem.trunk_slices
        inside = [node for node in central if node in near]
        first = next((node for node in inside if node not in taken), inside[0])
        if problem.dedicated_gateways:
            taken.add(first)
        standby = next((node for node in [*inside, *central] if node != first), first)
        names = tuple(problem.nodes[node] for node in dict.fromkeys((first, standby)))
        answer.append(GatewaySlice(piece * layers // pieces, (piece + 1) * layers // pieces - 1, names))
    return tuple(answer)


def _primaries(
    order: Sequence[int], ranking: Sequence[int], free: list[int], left: int, near: set[int] | None
) -> list[list[int]]:
    """One holder for each expert of a layer; takes slots from `free`.

    A node offers each of the `left` layers its even part of what it has left, so that small nodes serve every layer.
    Nodes outside `near` are asked only for what the others cannot hold.
    """
    offered = {node: -(-free[node] // left) for node in order}
    quota = dict.fromkeys(order, 0)
    given = 0
    for group in ([n for n in order if near is None or n in near], order):
        while given < len(ranking) and any(quota[node] < offered[node] for node in group):
            for node in group:
                if given < len(ranking) and quota[node] < offered[node]:
                    quota[node] += 1
                    given += 1
        offered = {node: free[node] for node in order} if near is not None else offered
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
