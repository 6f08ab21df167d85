"""The nodes of a view: one by one as rows, or all at once as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import overload

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class NodeView:
    """One node now. Temperature and charge come from the twin.

    `alive`: its last will has not fired, and its agent was not started again since it was told of the run.
    `in_service`: the twin's limits allow it new work.
    `energy_per_call_j`, `heating_per_call_k`: cost of one expert call (one row, one expert) there.
    `calls_per_s`: expert rows served lately, per host second.
    """

    name: str
    satellite: str
    alive: bool
    in_service: bool
    temperature_c: float
    charge: float
    sunlit: float
    power_w: float
    idle_power_w: float
    energy_per_call_j: float
    heating_per_call_k: float
    calls_per_s: float
    harvest_w: float


@dataclass(frozen=True, eq=False)
class NodeColumns(Sequence[NodeView]):
    """The same of N nodes by column, each [N]; also a sequence of rows, which are made when asked for.

    The arrays are a policy's to read: they are copies, or cannot be written.
    """

    names: tuple[str, ...]
    satellites: tuple[str, ...]
    alive: Bool
    in_service: Bool
    temperature_c: Float
    charge: Float
    sunlit: Float
    power_w: Float
    idle_power_w: Float
    energy_per_call_j: Float
    heating_per_call_k: Float
    calls_per_s: Float
    harvest_w: Float

    @classmethod
    def of(cls, rows: Sequence[NodeView]) -> NodeColumns:
        """The columns of these rows."""
        columns = [[getattr(row, field.name) for row in rows] for field in fields(NodeView)]
        names, satellites, alive, in_service, *numbers = columns
        return cls(
            tuple(names), tuple(satellites), np.array(alive, np.bool_), np.array(in_service, np.bool_),
            *(np.array(column, np.float64) for column in numbers),
        )  # fmt: skip

    @cached_property
    def usable(self) -> Bool:
        """[N]: may take new work."""
        return self.alive & self.in_service

    @cached_property
    def position(self) -> dict[str, int]:
        """Index of each name."""
        return _positions(self.names)

    @property
    def hottest(self) -> int:
        """Index of the warmest node; of equally warm ones the last by name."""
        return _extreme(self.temperature_c, self.temperature_c.max(), self.names, last=True)

    @property
    def lowest(self) -> int:
        """Index of the node with the least charge; of equal ones the first by name."""
        return _extreme(self.charge, self.charge.min(), self.names, last=False)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, at: int) -> NodeView: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[NodeView, ...]: ...

    def __getitem__(self, at: int | slice) -> NodeView | tuple[NodeView, ...]:
        if isinstance(at, slice):
            return tuple(self[i] for i in range(len(self))[at])
        return NodeView(
            self.names[at], self.satellites[at], bool(self.alive[at]), bool(self.in_service[at]),
            float(self.temperature_c[at]), float(self.charge[at]), float(self.sunlit[at]), float(self.power_w[at]),
            float(self.idle_power_w[at]), float(self.energy_per_call_j[at]), float(self.heating_per_call_k[at]),
            float(self.calls_per_s[at]), float(self.harvest_w[at]),
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodeColumns) and all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
        )

    def __hash__(self) -> int:
        return hash(self.names)


@lru_cache(maxsize=8)
def _positions(names: tuple[str, ...]) -> dict[str, int]:
    return {name: at for at, name in enumerate(names)}


def _extreme(values: Float, wanted: float, names: tuple[str, ...], last: bool) -> int:
    found = np.flatnonzero(values == wanted).tolist()
    return int(max(found, key=lambda at: names[at]) if last else min(found, key=lambda at: names[at]))
