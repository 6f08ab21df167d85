"""Fill real boards' memory: experts by falling importance, each to the node with the largest share of it left.

Boards differ in memory, so an even number of experts each would leave the large ones idle and overflow the small ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.placing import (
    Copies,
    central_nodes,
    check_problem,
    cut_slices,
    layer_orders,
    ranking,
    replicate,
)
from ground_controller.policies.view import Placement, PlacementProblem


@dataclass(frozen=True)
class MemoryGreedy:
    """Gateways as `rank_match` has them: the most central nodes."""

    name: ClassVar[str] = "memory_greedy"

    def place(self, problem: PlacementProblem) -> Placement:
        """All experts of all layers in one order, so that no layer starves another."""
        check_problem(self.name, problem)
        free = list(problem.slots)
        worth = problem.model.importance
        order = sorted(
            ((layer, expert) for layer in range(problem.model.layers) for expert in range(problem.model.experts)),
            key=lambda at: (-worth[at[0]][at[1]], at),
        )
        copies: Copies = [[[] for _ in range(problem.model.experts)] for _ in range(problem.model.layers)]
        for layer, expert in order:
            open_to = [node for node in range(len(free)) if free[node] > 0]
            node = min(open_to, key=lambda n: (-free[n] / problem.slots[n], -problem.slots[n], problem.nodes[n]))
            copies[layer][expert].append(node)
            free[node] -= 1
        gateways = cut_slices(problem, central_nodes(problem))
        orders = layer_orders(problem, gateways)
        ranks = [ranking(row) for row in worth]
        missing = replicate(problem, orders, ranks, free, copies)
        holders = tuple(tuple(tuple(held) for held in layer) for layer in copies)
        fullest = max(1.0 - free[n] / problem.slots[n] for n in range(len(free)) if problem.slots[n])
        short = f"; {missing} of the wanted copies found no room" if missing else ""
        return Placement(gateways, holders, f"by room left, the fullest node is {fullest:.0%} full{short}")
