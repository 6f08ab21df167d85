"""The record of a tick: what was decided, and the numbers it was decided from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.migration import MoveNumbers
from hil_config.wire.orders import DropShards, LoadShards, SetDuty, SetPower
from hil_config.wire.plan import SelectionPlan


class NodeNumbers(msgspec.Struct, frozen=True):
    """One node's state at a tick, as the policy saw it. Temperature, charge, harvest, wear: the twin's; `transmit_j`
    so far, in host time: modelled."""

    node: str
    alive: bool
    in_service: bool
    power_w: float
    temperature_c: float
    charge: float
    voltage_v: float
    sunlit: float
    harvest_w: float
    calls_per_s: float
    solar_j: float
    load_j: float
    unused_j: float
    deficit_j: float
    wear: float
    over_limit_s: float
    transmit_j: float = 0.0


FIELDS = NodeNumbers.__struct_fields__[1:]
_FLAGS = frozenset({"alive", "in_service"})


class NodeBlocks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same of all nodes, each field one block in the order of the plan's nodes: flags one byte each, the others
    little-endian float64."""

    alive: bytes
    in_service: bytes
    power_w: bytes
    temperature_c: bytes
    charge: bytes
    voltage_v: bytes
    sunlit: bytes
    harvest_w: bytes
    calls_per_s: bytes
    solar_j: bytes
    load_j: bytes
    unused_j: bytes
    deficit_j: bytes
    wear: bytes
    over_limit_s: bytes
    transmit_j: bytes

    @classmethod
    def of(cls, **columns: NDArray[Any]) -> NodeBlocks:
        """From one array [N] for each field."""
        return cls(
            **{name: column.astype("u1" if name in _FLAGS else "<f8").tobytes() for name, column in columns.items()}
        )


class TickNumbers(msgspec.Struct, frozen=True):
    """The head of a decision: when, and every node's numbers. `numbers` is called `nodes` in the record; journals of
    version 1 hold rows there, in the order of the plan's nodes like the columns."""

    tick: int
    scenario_s: float
    numbers: NodeBlocks | tuple[NodeNumbers, ...] = msgspec.field(name="nodes")

    def column(self, field: str) -> NDArray[Any]:
        """One field of `FIELDS` of all nodes, [N] bool or float64."""
        if isinstance(self.numbers, tuple):
            return np.array([getattr(row, field) for row in self.numbers])
        return np.frombuffer(getattr(self.numbers, field), np.bool_ if field in _FLAGS else "<f8")


class Decision(TickNumbers, frozen=True):
    """What was decided at a tick. `further`: states of the further policies; `orders` of shards and power
    modes to give to nodes now; `moves`: every move of an expert so far."""

    duties: tuple[SetDuty | None, ...]
    policy_state: Any
    plan: SelectionPlan
    further: dict[str, Any] = {}
    orders: tuple[tuple[str, LoadShards | DropShards | SetPower], ...] = ()
    moves: tuple[MoveNumbers, ...] = ()

    @property
    def nodes(self) -> tuple[NodeNumbers, ...]:
        """Row by row; made anew for each call."""
        if isinstance(self.numbers, tuple):
            return self.numbers
        columns = (self.column(field).tolist() for field in FIELDS)
        return tuple(NodeNumbers(*row) for row in zip(self.plan.nodes, *columns, strict=True))


def history(decisions: Sequence[Decision], field: str) -> NDArray[Any]:
    """[T, N]: one field of all nodes over the ticks."""
    return np.array([decision.column(field) for decision in decisions])


_encoder = msgspec.json.Encoder()


def encode_decision(decision: Decision) -> bytes:
    """Canonical JSON: equal decisions give equal bytes."""
    return _encoder.encode(decision)


def same_decision(decision: Decision, body: bytes) -> bool:
    """Whether a journal's record, of this version or of version 1, is this decision."""
    if encode_decision(decision) == body:
        return True
    try:
        then = msgspec.json.decode(body, type=Decision)
    except (ValueError, RecursionError):  # msgspec's errors and a bare UnicodeDecodeError: the record was damaged
        return False
    if not isinstance(then.numbers, tuple):
        return False
    # Fields that came later have their defaults in both.
    return encode_decision(msgspec.structs.replace(decision, numbers=decision.nodes)) == encode_decision(then)
