"""Who decides beside the selection policy, and what they may use. Everything off by default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ground_controller.policies.resources import (
    PrecisionPolicy,
    ReplacementPolicy,
    TransmissionPolicy,
    Variant,
)
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.manifest import Precision


@dataclass(frozen=True)
class Leg:
    """One hop of weights on their way: node `source` sends to node `target` from `begins_s` to `ends_s`."""

    source: int
    target: int
    begins_s: float
    ends_s: float


@dataclass(frozen=True)
class Carried:
    """What becomes of weights: the legs they really make, when they are expected, and when they arrive (infinity:
    stranded where the last leg ends)."""

    legs: tuple[Leg, ...]
    expected_s: float
    arrived_s: float


class Ways(Protocol):
    """Ways of frames between nodes."""

    name: str

    def ways(self, scenario_s: float, alive: tuple[bool, ...]) -> tuple[tuple[int, ...], ...]:
        """Of each ordered pair whose frames go over others, the nodes on the way, both ends included."""


class Carrier(Protocol):
    """Brings weights from node to node. Remembers what is booked."""

    def carry(self, source: int, target: int, at_s: float, bits: float, alive: Sequence[bool]) -> Carried | None:
        """Book the way of `bits`; None where there is none."""


@dataclass(frozen=True)
class Further:
    """Args.

    variants: of `precision`, finest first. held: [layers][experts] at which precisions hosts hold an expert, the one
        that serves unless a plan says otherwise first. expert_bits: [layers][experts] of those weights. slots: [N]
        experts a node may hold. link_share: of a link's rate, for weights. grace_s: scenario seconds that plans have
        not named a node before it is told to drop an expert.
    """

    precision: PrecisionPolicy[Any] | None = None
    transmission: TransmissionPolicy[Any] | None = None
    replacement: ReplacementPolicy[Any] | None = None
    ways: Ways | None = None
    make_carrier: Callable[[], Carrier] | None = None
    variants: tuple[Variant, ...] = ()
    held: tuple[tuple[tuple[Precision, ...], ...], ...] = ()
    sensitivity: tuple[float, ...] = ()
    codec: Codec = "fp16"
    expert_bits: tuple[tuple[float, ...], ...] = ()
    slots: tuple[int, ...] = ()
    link_share: float = 0.5
    grace_s: float = 5.0

    @property
    def idle(self) -> bool:
        """Does nobody decide anything here?"""
        return all(one is None for one in (self.precision, self.transmission, self.replacement, self.ways))


NOTHING_FURTHER = Further()
