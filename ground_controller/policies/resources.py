"""What the policies beyond selection see and answer: precisions, codecs of frames, moves of experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ground_controller.policies.view import View
from hil_config.wire.hidden_codec import Codec
from hil_config.wire.manifest import Precision
from hil_config.wire.plan import Transmission


@dataclass(frozen=True)
class Variant:
    """A precision at which every host holds its experts.

    `energy`: of one call, relative to the campaign's precision. `nats[layer][expert]`: rise in nats a token when that
    expert alone is served so; empty where nothing was calibrated.
    """

    precision: Precision
    energy: float
    nats: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Resources:
    """Beside a view of N nodes.

    Args:
        variants: finest first; empty where every host holds one precision of each expert.
        rate_bit_s: [N, N] of the links now, 0 where they are down.
        sent_bit_s: [N] hidden states and weights each node sent lately, in host time.
        transmit_j_per_bit: what a sent bit costs its node.
        sensitivity: [layers] rise in nats per unit of squared error there, relative to the largest; empty: not known.
        codec: the campaign's own for hidden states.
        free_slots: [N] experts that each node may still be given.
        expert_bits: of one expert's weights, mean.
        moving: moves under way.
    """

    variants: tuple[Variant, ...]
    rate_bit_s: NDArray[np.float64]
    sent_bit_s: tuple[float, ...]
    transmit_j_per_bit: float
    sensitivity: tuple[float, ...]
    codec: Codec
    free_slots: tuple[int, ...]
    expert_bits: float
    moving: int = 0


@dataclass(frozen=True)
class Precisions:
    """`of[layer][expert][i]`: at which precision `view.holders[layer][expert][i]` serves; empty: as it holds it."""

    of: tuple[tuple[tuple[Precision, ...], ...], ...]
    reason: str


@dataclass(frozen=True)
class Sendings:
    """Rules for the codecs of frames; None leaves every link the campaign's codec."""

    rules: Transmission | None
    reason: str


@dataclass(frozen=True, order=True)
class Move:
    """Bring expert `expert` of `layer` from node `source` to node `target` (indices); a copy stays where it is."""

    layer: int
    expert: int
    source: int
    target: int
    copy: bool = True


@dataclass(frozen=True)
class Moves:
    """What is to begin to move now."""

    moves: tuple[Move, ...]
    reason: str


S = TypeVar("S")


class PrecisionPolicy(Protocol, Generic[S]):
    """Pure: the same state and view give the same answer. `S` is a JSON-able frozen state."""

    name: str

    def variants(self) -> tuple[Precision, ...]:
        """Precisions that hosts must hold besides the campaign's own."""

    def start(self, nodes: int) -> S:
        """The state before the first tick."""

    def choose(self, state: S, view: View, resources: Resources) -> tuple[S, Precisions]:
        """A precision for every expert on every holder, with a reason a person can read."""


class TransmissionPolicy(Protocol, Generic[S]):
    """As above."""

    name: str

    def start(self, nodes: int) -> S:
        """The state before the first tick."""

    def rule(self, state: S, view: View, resources: Resources) -> tuple[S, Sendings]:
        """Rules of transmission for the next tick, with a reason a person can read."""


class ReplacementPolicy(Protocol, Generic[S]):
    """As above. With `looks_ahead` true its views have an outlook."""

    name: str

    def start(self, nodes: int) -> S:
        """The state before the first tick."""

    def move(self, state: S, view: View, resources: Resources) -> tuple[S, Moves]:
        """Moves to begin now, with a reason a person can read."""
