"""Exact placement of primaries by integer programming (HiGHS through scipy): the yardstick for small benches.

    min  sum_{l,e,n} x_{len} p_{le} c_{ln}  +  balance z
    sum_n x_{len} = 1        sum_{l,e} x_{len} <= slots_n        sum_{l,e} p_{le} x_{len} <= z  (load of each node)

with p the activation and c the expected path from the layer's gateway through n to the next one's, in means. z is the
load of the busiest node over the mean load: heat and wear follow it, so `balance` prices both against latency. Gateways
are those of `rank_match`; further copies are added as there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ground_controller.policies.options import within
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
from hil_config.errors import ConfigError
from hil_config.wire.plan import GatewaySlice

MOST_BINARIES = 20_000


@dataclass(frozen=True)
class Milp:
    """Args: `balance` weight of the busiest node's load; `gap` relative, at which the solver may stop; `limit_s`."""

    balance: float = 0.2
    gap: float = 1e-4
    limit_s: float = 20.0
    name: ClassVar[str] = "milp"

    def __post_init__(self) -> None:
        within(self.name, "balance", self.balance, 0.0)
        within(self.name, "gap", self.gap, 0.0, 1.0)
        within(self.name, "limit_s", self.limit_s, 0.1)

    def place(self, problem: PlacementProblem) -> Placement:
        """ConfigError if the bench is too large for an exact answer or the solver finds none in time."""
        check_problem(self.name, problem)
        nodes, layers, experts = len(problem.nodes), problem.model.layers, problem.model.experts
        if nodes * layers * experts > MOST_BINARIES:
            raise ConfigError(
                f"policy milp: {nodes} nodes x {layers} layers x {experts} experts, at most {MOST_BINARIES} choices",
                "use rank_match or eplb on a bench of this size",
            )
        by_name = sorted(range(nodes), key=lambda node: problem.nodes[node])
        gateways = cut_slices(problem, central_nodes(problem))
        chosen, found = self._solve(problem, self._paths(problem, gateways), by_name)
        copies: Copies = [[[by_name[chosen[layer, e]]] for e in range(experts)] for layer in range(layers)]
        free = list(problem.slots)
        for row in copies:
            for held in row:
                free[held[0]] -= 1
        ranks = [ranking(row) for row in problem.model.activation]
        missing = replicate(problem, layer_orders(problem, gateways), ranks, free, copies)
        holders = tuple(tuple(tuple(held) for held in layer) for layer in copies)
        short = f"; {missing} of the wanted copies found no room" if missing else ""
        return Placement(gateways, holders, f"{found}{short}")

    @staticmethod
    def _paths(problem: PlacementProblem, gateways: tuple[GatewaySlice, ...]) -> np.ndarray:
        """[layers, nodes] expected path over the mean of all."""
        index = {name: node for node, name in enumerate(problem.nodes)}
        at = [index[piece.nodes[0]] for piece in gateways for _ in range(piece.first, piece.last + 1)]
        delay = problem.expected_delay_s
        path = np.array([delay[here, :] + delay[:, after] for here, after in zip(at, [*at[1:], at[-1]], strict=True)])
        mean = float(path.mean())
        return path / mean if mean > 0.0 else path

    def _solve(self, problem: PlacementProblem, path: np.ndarray, by_name: list[int]) -> tuple[np.ndarray, str]:
        """Node (as a place in `by_name`) of each [layer, expert], and how good that is."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # slow to import
        from scipy.sparse import lil_matrix

        p = np.array(problem.model.activation)
        layers, experts, nodes = *p.shape, len(by_name)
        count = layers * experts * nodes
        cost = np.r_[(p[:, :, None] * path[:, None, by_name]).ravel() / p.sum(), self.balance]
        rows = lil_matrix((layers * experts + 2 * nodes, count + 1))
        mean = p.sum() / nodes
        for k in range(layers * experts):
            rows[k, k * nodes : (k + 1) * nodes] = 1.0
        for n in range(nodes):
            rows[layers * experts + n, n:count:nodes] = 1.0
            rows[layers * experts + nodes + n, n:count:nodes] = p.ravel() / mean
            rows[layers * experts + nodes + n, count] = -1.0
        slots = [float(problem.slots[node]) for node in by_name]
        low = np.r_[np.ones(layers * experts), np.full(2 * nodes, -math.inf)]
        high = np.r_[np.ones(layers * experts), slots, np.zeros(nodes)]
        found = milp(
            cost, constraints=LinearConstraint(rows.tocsr(), low, high),
            integrality=np.r_[np.ones(count), 0.0], bounds=Bounds(0.0, np.r_[np.ones(count), math.inf]),
            options={"mip_rel_gap": self.gap, "time_limit": self.limit_s},
        )  # fmt: skip
        if found.x is None:
            raise ConfigError(f"policy milp: no placement within {self.limit_s:g} s: {found.message}", "raise limit_s")
        good = f"exact within {self.gap:g}"
        if found.status:  # what it had in the time: a slower machine may find another
            good = f"stopped after {self.limit_s:g} s, proved within {found.mip_gap:.2g}"
        chosen = found.x[:count].reshape(layers, experts, nodes).argmax(axis=2)
        return chosen, f"{good}: objective {found.fun:.4f}"
