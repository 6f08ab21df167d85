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

from ground_controller.policies.placing import (
    Copies,
    central_nodes,
    check_problem,
    free_slots,
    layer_orders,
    replicate,
    ring_subnets,
)
from ground_controller.policies.view import Placement, PlacementProblem
from hil_config.wire.plan import GatewaySlice


def _standby(problem: PlacementProblem, primary: int, rest: Sequence[int]) -> tuple[str, ...]:
    other = next((node for node in rest if node != primary), None)
    return (problem.nodes[primary],) if other is None else (problem.nodes[primary], problem.nodes[other])


def _place(problem: PlacementProblem, subnets: list[list[int]] | None, central: bool, name: str) -> Placement:
    check_problem(name, problem)
    rng = np.random.default_rng(problem.seed)
    by_name = sorted(range(len(problem.nodes)), key=lambda node: problem.nodes[node])
    layers, everybody = problem.model.layers, central_nodes(problem) if central else by_name
    gateways: list[GatewaySlice] = []
    taken: set[int] = set()
    for piece in range(problem.trunk_slices):
        near = _near(subnets, piece, everybody)
        drawn = near if central else [near[i] for i in rng.permutation(len(near))]
        first = next((node for node in drawn if node not in taken), drawn[0])
        if problem.dedicated_gateways:
            taken.add(first)
        others = [node for node in [*drawn, *(by_name[i] for i in rng.permutation(len(by_name)))] if node != first]
        start, end = _layers_of(problem, piece)
        gateways.append(GatewaySlice(start, end - 1, _standby(problem, first, others)))
    free = free_slots(problem, gateways)
    copies: Copies = []
    for piece in range(problem.trunk_slices):
        near = _near(subnets, piece, by_name)
        for _ in range(*_layers_of(problem, piece)):
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


def _near(subnets: list[list[int]] | None, piece: int, order: list[int]) -> list[int]:
    """Nodes of a piece's subnet in the given order; all where there are no subnets."""
    if subnets is None:
        return order
    members = set(subnets[piece])
    return [node for node in order if node in members]


def _layers_of(problem: PlacementProblem, piece: int) -> tuple[int, int]:
    layers, pieces = problem.model.layers, problem.trunk_slices
    return piece * layers // pieces, (piece + 1) * layers // pieces


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
        return _place(problem, ring_subnets(problem), False, self.name)


@dataclass(frozen=True)
class RandomInRingCentral:
    """RandIntra-CG: as before, with the most central node of each piece as the gateway."""

    name: ClassVar[str] = "random_in_ring_central"

    def place(self, problem: PlacementProblem) -> Placement:
        return _place(problem, ring_subnets(problem), True, self.name)
