"""What a policy sees of the world, and the protocols a policy fulfils. No clock, no I/O, no randomness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ground_controller.policies.nodes import NodeColumns, NodeView
from hil_config.wire.manifest import ModelCard
from hil_config.wire.plan import GatewaySlice, LayerPlan

__all__ = [
    "Limits", "NodeColumns", "NodeView", "Outlook", "Placement", "PlacementPolicy", "PlacementProblem", "Selection",
    "SelectionPolicy", "View",
]  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Above `temperature_soft_c` or below `charge_soft` (state of charge, 0 to 1) a node takes no new work;
    beyond the hard ones it is out of service. It returns only after recovering by the hysteresis."""

    temperature_soft_c: float
    temperature_hard_c: float
    charge_soft: float
    charge_hard: float
    temperature_hysteresis_c: float
    charge_hysteresis: float


@dataclass(frozen=True, eq=False)
class Outlook:
    """What the schedule and the twin say of the time ahead, H periods from now, for N nodes in the view's order.

    Args:
        period_s: [H] lengths, the first one short.
        harvest_w: [H, N] mean power of the arrays. power_w: [N] of the boards now, as the twin accounts for it.
        rate: orbit seconds in a host second.
        base_c: [H, N] die at the end of each period if the boards drew nothing.
        warming_k_w: [H, H] what one watt over period j adds to a die at the end of period h (0 for j > h).
        base_load_w, battery_j, charge_efficiency, discharge_efficiency: of the satellites, all alike.
    """

    period_s: NDArray[np.float64]
    harvest_w: NDArray[np.float64]
    power_w: NDArray[np.float64]
    rate: float
    base_c: NDArray[np.float64]
    warming_k_w: NDArray[np.float64]
    base_load_w: float
    battery_j: float
    charge_efficiency: float
    discharge_efficiency: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outlook) and all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
        )

    def __hash__(self) -> int:
        return hash((self.rate, self.battery_j))


@dataclass(frozen=True)
class View:
    """The world at one tick.

    `nodes`: one by one; `columns` has the same as arrays.
    `delay_s[i, j]`: one-way delay from node i to node j now, +inf when the link is down, 0 on the diagonal.
    `holders[layer][expert]`: indices of nodes that hold the expert, primary first. `gateways`: the trunk slices,
    nodes in the order of preference that holds now (the placement's until a policy changes it).
    `experts_per_row`: experts that a row and layer used lately. `substitute[layer][expert]`: the expert whose output is
    nearest (-1: none), `substitute_error` how far it is, relative to ||y||^2; empty where nothing was calibrated.
    `outlook`: for policies that set `looks_ahead`, else None.
    """

    scenario_s: float
    step_s: float
    nodes: Sequence[NodeView]
    delay_s: NDArray[np.float64]
    holders: tuple[tuple[tuple[int, ...], ...], ...]
    gateways: tuple[GatewaySlice, ...]
    model: ModelCard
    limits: Limits
    experts_per_row: float = 0.0
    substitute: tuple[tuple[int, ...], ...] = ()
    substitute_error: tuple[tuple[float, ...], ...] = ()
    outlook: Outlook | None = None

    @cached_property
    def columns(self) -> NodeColumns:
        """The nodes by column."""
        return self.nodes if isinstance(self.nodes, NodeColumns) else NodeColumns.of(self.nodes)


@dataclass(frozen=True)
class Selection:
    """A selection policy's answer; the loop adds version, epoch and time to make the plan.

    `gateways`: the same slices with their nodes in a new order of preference, for requests that begin from now
    on and as the next view's order; None leaves the order as it is.
    """

    scale: float
    coverage: float
    k_min: int
    k_max: int
    threshold: float
    layers: tuple[LayerPlan, ...]
    reason: str
    gateways: tuple[GatewaySlice, ...] | None = None


@dataclass(frozen=True)
class Placement:
    """Who holds what. `holders[layer][expert]`: node indices, primary first."""

    gateways: tuple[GatewaySlice, ...]
    holders: tuple[tuple[tuple[int, ...], ...], ...]
    reason: str


@dataclass(frozen=True)
class PlacementProblem:
    """What a placement policy is given before the run.

    `expected_delay_s[i, j]`: mean one-way delay over the schedule between nodes i and j, outages counted at
    the largest delay seen; `slots[i]`: how many experts node i may hold. `ring[i]`: place of node i in its orbit, any
    rising measure (argument of latitude, number in the plane); empty: not known. `dedicated_gateways`: a node that is
    the first gateway of a slice serves no other slice first and holds no expert (arXiv 2605.00515: one role each).
    """

    nodes: tuple[str, ...]
    expected_delay_s: NDArray[np.float64]
    slots: tuple[int, ...]
    replicas: int
    trunk_slices: int
    model: ModelCard
    seed: int
    ring: tuple[float, ...] = ()
    dedicated_gateways: bool = False


S = TypeVar("S")


class SelectionPolicy(Protocol, Generic[S]):
    """Pure: the same state and view give the same answer. `S` is a JSON-able frozen state."""

    name: str

    def start(self, nodes: int) -> S:
        """The state before the first tick."""

    def select(self, state: S, view: View) -> tuple[S, Selection]:
        """Prices, limits and hosts for the next tick, with a reason a person can read."""


class PlacementPolicy(Protocol):
    """Pure: the same problem gives the same placement."""

    name: str

    def place(self, problem: PlacementProblem) -> Placement:
        """Gateways and holders, with a reason a person can read."""
