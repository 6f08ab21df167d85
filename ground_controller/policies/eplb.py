"""Expert-parallel load balancing after DeepSeek's EPLB: replicate what is busiest, then pack into the least loaded.

For each layer: while there are slots for another copy, copy the expert with the largest load / copies; then, copies by
falling load, each goes to the node with room that carries least and does not hold the expert yet. Load is activation.
The example in the README of github.com/deepseek-ai/EPLB comes out of these steps exactly (tests/policies/test_eplb.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.placing import central_nodes, check_problem, cut_slices
from ground_controller.policies.view import Placement, PlacementProblem


def replicas(load: Sequence[float], copies: int, most: int) -> list[int]:
    """Copies of each expert: one each, then one by one to the largest load a copy, none above `most`."""
    count = [1] * len(load)
    for _ in range(copies - len(load)):
        open_to = [e for e in range(len(load)) if count[e] < most]
        if not open_to:
            break
        count[max(open_to, key=lambda e: (load[e] / count[e], -e))] += 1
    return count


def pack(load: Sequence[float], count: Sequence[int], room: Sequence[int], carried: Sequence[float]) -> list[list[int]]:
    """Nodes of each expert: copies by falling load a copy, each to the node with room that carries least.

    Args: `room` slots of each node, `carried` load it has already; ties go to the earlier node.
    """
    free, total = list(room), list(carried)
    held: list[list[int]] = [[] for _ in load]
    copies = [(load[e] / count[e], e) for e in range(len(load)) for _ in range(count[e])]
    for each, expert in sorted(copies, key=lambda copy: (-copy[0], copy[1])):
        open_to = [n for n in range(len(free)) if free[n] > 0 and n not in held[expert]]
        if not open_to:
            continue
        node = min(open_to, key=lambda n: total[n])
        held[expert].append(node)
        free[node] -= 1
        total[node] += each
    return held


@dataclass(frozen=True)
class Eplb:
    """Gateways as `rank_match` has them: the most central nodes."""

    name: ClassVar[str] = "eplb"

    def place(self, problem: PlacementProblem) -> Placement:
        """Each layer may use its even part of the slots that are left."""
        check_problem(self.name, problem)
        by_name = sorted(range(len(problem.nodes)), key=lambda node: problem.nodes[node])
        free = [problem.slots[node] for node in by_name]
        carried = [0.0] * len(by_name)
        layers: list[tuple[tuple[int, ...], ...]] = []
        experts, wanted = problem.model.experts, problem.model.experts * (1 + problem.replicas)
        for layer in range(problem.model.layers):
            later = experts * (problem.model.layers - layer - 1)
            copies = max(experts, min(wanted, sum(free) - later))
            load = problem.model.activation[layer]
            held = pack(load, replicas(load, copies, min(len(by_name), 1 + problem.replicas)), free, carried)
            self._mend(held, free)
            for expert, nodes in enumerate(held):
                for node in nodes:
                    free[node] -= 1
                    carried[node] += load[expert] / len(nodes)
            layers.append(tuple(tuple(by_name[node] for node in nodes) for nodes in held))
        worst, mean = max(carried), sum(carried) / len(carried)
        reason = f"busiest experts replicated, copies to the least loaded; busiest node {worst / mean:.2f} x the mean"
        return Placement(cut_slices(problem, central_nodes(problem)), tuple(layers), reason)

    @staticmethod
    def _mend(held: list[list[int]], free: Sequence[int]) -> None:
        """An expert that found no room takes the place of the last copy of the one that has most."""
        for nodes in held:
            if not nodes:
                rich = max(held, key=len)
                nodes.append(rich.pop() if len(rich) > 1 else next(n for n, room in enumerate(free) if room > 0))
