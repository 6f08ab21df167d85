"""The baselines of arXiv 2605.00515: all at random, at random in ring subnets, and that with central gateways.

A ring subnet is a stretch of the orbit: nodes in the order of their place in it (`PlacementProblem.ring`; by name where
that is not known) are cut into as many near-equal pieces as the trunk has slices, and the experts of a slice's layers
stay in its piece while its memory lasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ground_controller.policies.placing import Copies, central_nodes, check_problem, layer_orders, replicate
from ground_controller.policies.view import Placement, PlacementProblem
from hil_config.wire.plan import GatewaySlice


def ring_order(problem: PlacementProblem) -> list[int]:
    """Nodes by their place in the orbit, then by name."""
    place = problem.ring or (0.0,) * len(problem.nodes)
    return sorted(range(len(problem.nodes)), key=lambda node: (place[node], problem.nodes[node]))


def _subnets(problem: PlacementProblem) -> list[list[int]]:
    """One piece of the ring for each slice; where there are more slices than nodes, pieces are used again."""
    ring, pieces = ring_order(problem), min(problem.trunk_slices, len(problem.nodes))
    cut = [ring[i * len(ring) // pieces : (i + 1) * len(ring) // pieces] for i in range(pieces)]
    return [cut[i % pieces] for i in range(problem.trunk_slices)]


def _standby(problem: PlacementProblem, primary: int, rest: Sequence[int]) -> tuple[str, ...]:
    other = next((node for node in rest if node != primary), None)
    return (problem.nodes[primary],) if other is None else (problem.nodes[primary], problem.nodes[other])


def _place(problem: PlacementProblem, subnets: list[list[int]] | None, central: bool, name: str) -> Placement:
    check_problem(name, problem)
    rng = np.random.default_rng(problem.seed)
    by_name = sorted(range(len(problem.nodes)), key=lambda node: problem.nodes[node])
    layers, free = problem.model.layers, list(problem.slots)
    gateways: list[GatewaySlice] = []
    copies: Copies = []
    for piece in range(problem.trunk_slices):
        first, end = piece * layers // problem.trunk_slices, (piece + 1) * layers // problem.trunk_slices
        near = sorted(subnets[piece], key=by_name.index) if subnets else by_name
        drawn = [near[i] for i in rng.permutation(len(near))]
        if central:
            drawn = [node for node in central_nodes(problem) if node in near]
        others = [node for node in [*drawn, *(by_name[i] for i in rng.permutation(len(by_name)))] if node != drawn[0]]
        gateways.append(GatewaySlice(first, end - 1, _standby(problem, drawn[0], others)))
        for _ in range(first, end):
            copies.append([[_draw(rng, near, by_name, free)] for _ in range(problem.model.experts)])
    orders = layer_orders(problem, gateways)
    ranks = [[int(e) for e in rng.permutation(problem.model.experts)] for _ in range(layers)]
    missing = replicate(problem, orders, ranks, free, copies)
    holders = tuple(tuple(tuple(held) for held in layer) for layer in copies)
    where = "in ring subnets" if subnets else "anywhere"
    gates = "the most central of each subnet" if central else "at random"
    short = f"; {missing} of the wanted copies found no room" if missing else ""
    reason = f"experts at random {where} (seed {problem.seed}), gateways {gates}{short}"
    return Placement(tuple(gateways), holders, reason)


def _draw(rng: np.random.Generator, near: Sequence[int], everybody: Sequence[int], free: list[int]) -> int:
    """A node with room, drawn in proportion to its room; from the subnet while it has any."""
    open_to = [node for node in near if free[node] > 0] or [node for node in everybody if free[node] > 0]
    room = np.array([free[node] for node in open_to], dtype=np.float64)
    node = open_to[int(rng.choice(len(open_to), p=room / room.sum()))]
    free[node] -= 1
    return node


@dataclass(frozen=True)
class Random:
    """RandPlace: gateways and experts anywhere."""

    name: ClassVar[str] = "random"

    def place(self, problem: PlacementProblem) -> Placement:
        return _place(problem, None, False, self.name)


@dataclass(frozen=True)
class RandomInRing:
    """RandIntra: gateways and experts at random, each slice in its piece of the ring."""

    name: ClassVar[str] = "random_in_ring"

    def place(self, problem: PlacementProblem) -> Placement:
        return _place(problem, _subnets(problem), False, self.name)


@dataclass(frozen=True)
class RandomInRingCentral:
    """RandIntra-CG: as before, with the most central node of each piece as the gateway."""

    name: ClassVar[str] = "random_in_ring_central"

    def place(self, problem: PlacementProblem) -> Placement:
        return _place(problem, _subnets(problem), True, self.name)
