"""A plan's layer, compiled for the gate against the nodes that are live, and what the gate chooses."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import RemoteProtocolError
from hil_config.wire.plan import MAX_HOPS, SelectionPlan

F32 = NDArray[np.float32]
I16 = NDArray[np.int16]

RESERVES = 2
"""How many next-best live experts are named per row, for a pick whose every host is lost."""


ALWAYS_UTILITY = np.float32(3e38)
"""Utility of a live always-on expert: above any price."""


_INT16: dict[int, struct.Struct] = {}


class Noted(NamedTuple):
    """Experts and hosts of some rows as bytes of int16 [T, K]; `kept`, their mean; `rerouted`, of all of them."""

    experts: bytes
    hosts: bytes
    kept: float
    rerouted: int


class Picks(NamedTuple):
    """What the gate chose for T rows.

    `experts`, `hosts` int16 [T, K], -1 where a row uses fewer than K; `weights` float32 [T, K], 0 there.
    `reserves` int16 [T, RESERVES] next live experts (-1 none) with `reserve_weights`.
    `kept` float32 [T]: mixing mass served, as a share of what the model's own top-k would mix.
    `rerouted` int [T]: how many of the model's own picks were not live.
    """

    experts: I16
    hosts: I16
    weights: F32
    reserves: I16
    reserve_weights: F32
    kept: F32
    rerouted: NDArray[np.intp]

    def noted(self, rows: slice) -> Noted:
        """What evidence says of some of the rows."""
        kept = self.kept[rows]
        return Noted(
            self.experts[rows].tobytes(), self.hosts[rows].tobytes(),
            float(kept[0]) if len(kept) == 1 else float(kept.mean()), sum(self.rerouted[rows].tolist()),
        )  # fmt: skip

    def mass(self, rows: slice, served: NDArray[np.float64]) -> float:
        """Mean mixing mass of some of the rows where such a share of what was picked was `served`."""
        return float((self.kept[rows] * served[rows]).mean())

    def row(self, at: int) -> Picks:
        """One of the rows."""
        one = slice(at, at + 1)
        return Picks(
            self.experts[one], self.hosts[one], self.weights[one], self.reserves[one], self.reserve_weights[one],
            self.kept[one], self.rerouted[one],
        )  # fmt: skip


class RowPicks(NamedTuple):
    """`Picks` of one row as plain values; `kept` is what float32 holds of it."""

    experts: list[int]
    hosts: list[int]
    weights: list[float]
    reserves: list[int]
    reserve_weights: list[float]
    kept: float
    rerouted: int

    def noted(self, rows: slice) -> Noted:
        """As `Picks` has it."""
        width = len(self.experts)
        form = _INT16.get(width) or _INT16.setdefault(width, struct.Struct(f"<{width}h"))
        return Noted(form.pack(*self.experts), form.pack(*self.hosts), self.kept, self.rerouted)

    def mass(self, rows: slice, served: NDArray[np.float64]) -> float:
        """As `Picks` has it."""
        return self.kept * float(served[0])

    def picks(self) -> Picks:
        """As arrays."""
        return Picks(
            np.array([self.experts], np.int16), np.array([self.hosts], np.int16), np.array([self.weights], np.float32),
            np.array([self.reserves], np.int16), np.array([self.reserve_weights], np.float32),
            np.array([self.kept], np.float32), np.array([self.rerouted], np.intp),
        )  # fmt: skip


@dataclass(frozen=True)
class LayerGate:
    """A plan's layer, compiled for the kernel against the set of live nodes.

    `gain` [E], or the scale where all are alike: what multiplies the scores. `price` [E]; `live` [E] bool;
    `target` [E] int16, the expert really served for e (itself or its substitute); `hosts` int16 [E, R] in the
    order of nodes, padded with -1; `cumulative` float64 [E, R] of host weights, 1 at the last real host.
    """

    gain: F32 | float
    coverage: float
    k_min: int
    k_max: int
    threshold: float
    price: F32
    live: NDArray[np.bool_]
    target: I16
    hosts: I16
    cumulative: NDArray[np.float64]

    @cached_property
    def plain(self) -> bool:
        """Utility is the score itself."""
        return isinstance(self.gain, float) and self.gain == 1.0 and not self.price.any() and self.all_live

    @cached_property
    def all_live(self) -> bool:
        return bool(self.live.all())

    @cached_property
    def columns(self) -> Columns:
        """For one row at a time, where a list is quicker than an array."""
        picks = min(self.k_max, len(self.target))
        return Columns(
            self.target.tolist(), self.hosts.tolist(), self.cumulative.tolist(), self.hosts.shape[1] - 1,
            pick_offsets(picks), float(np.float32(self.threshold)), float(np.float32(self.coverage)),
            self.k_min >= self.k_max and self.coverage >= 1.0,
        )  # fmt: skip


class Columns(NamedTuple):
    """A gate's arrays as lists; the bounds as float32 holds them, which is what scores are compared with.

    `last`: the last replica's place; `offsets` of a row's picks among replicas; `takes_all`: what is live is kept,
    whatever its utility.
    """

    target: list[int]
    hosts: list[list[int]]
    cumulative: list[list[float]]
    last: int
    offsets: tuple[float, ...]
    threshold: float
    coverage: float
    takes_all: bool


def check_plan(plan: SelectionPlan, layers: int, experts: int) -> None:
    """RemoteProtocolError unless the plan fits the model and its own node list."""
    ok = len(plan.layers) == layers and 0 <= plan.k_min <= plan.k_max <= experts and plan.k_max >= 1
    for layer in plan.layers:
        ok = ok and len(layer.price) == len(layer.hosts) == len(layer.substitute) == experts
        ok = ok and all(-1 <= e < experts for e in layer.substitute)
        ok = ok and len(layer.factor) in {0, experts} and layer.coverage > 0.0
        ok = ok and all(0 <= s.node < len(plan.nodes) and s.weight > 0 for h in layer.hosts for s in h)
        ok = ok and len(layer.precision) in {0, experts}
        ok = ok and all(len(p) == len(h) for p, h in zip(layer.precision, layer.hosts, strict=False))
    if not (ok and _slices_fit(plan, layers) and _links_fit(plan, layers)):
        raise RemoteProtocolError(
            f"plan {plan.version} does not fit a model of {layers} layers x {experts} experts",
            "plan and node must come from the same run",
        )


def _slices_fit(plan: SelectionPlan, layers: int) -> bool:
    """Slices that follow one another over all layers, each with nodes of the plan."""
    begins = [0, *(piece.last + 1 for piece in plan.gateways)]
    ok = len(begins) > 1 and begins[-1] == layers and all(a < b for a, b in pairwise(begins))
    ok = ok and all(piece.first == begin for piece, begin in zip(plan.gateways, begins, strict=False))
    return ok and all(piece.nodes and set(piece.nodes) <= set(plan.nodes) for piece in plan.gateways)


def _links_fit(plan: SelectionPlan, layers: int) -> bool:
    """What the plan says of links: between its own nodes, in numbers that can be."""
    n, rules = len(plan.nodes), plan.transmission
    ok = all(
        3 <= len(way) == len(set(way)) <= MAX_HOPS + 1 and all(0 <= node < n for node in way) for way in plan.routes
    )
    ok = ok and all(0 <= a.source < n and 0 <= a.target < n and 0.0 < a.share < 1.0 for a in plan.loads)
    if rules is not None:
        ok = ok and len(rules.sensitivity) in {0, layers}
        ok = ok and all(0 <= r.source < n and 0 <= r.target < n for r in rules.links)
        ok = ok and all(r.most_bytes >= 0 and 0.0 <= r.price < float("inf") for r in rules.links)
    return ok


def unpriced(plan: SelectionPlan, top_k: int) -> SelectionPlan:
    """The stated fallback of an expired plan: plain top-k over the same hosts."""
    zero = tuple(0.0 for _ in plan.layers[0].price) if plan.layers else ()
    none = tuple(-1 for _ in zero)
    layers = tuple(type(layer)(zero, layer.hosts, none) for layer in plan.layers)
    return SelectionPlan(
        version=plan.version, epoch=plan.epoch, issued_s=plan.issued_s, ttl_s=plan.ttl_s,
        policy=plan.policy, reason="expired: plain top-k", scale=1.0, coverage=1.0, k_min=top_k,
        k_max=top_k, threshold=0.0, nodes=plan.nodes, gateways=plan.gateways, layers=layers,
    )  # fmt: skip


def compile_layer(plan: SelectionPlan, layer: int, alive: NDArray[np.bool_]) -> LayerGate:
    """Args: `alive` bool [nodes of the plan]: those the gateway can reach now."""
    entry = plan.layers[layer]
    experts = len(entry.price)
    target = np.array([s if s >= 0 else e for e, s in enumerate(entry.substitute)], np.int16)
    width = max(1, max((len(h) for h in entry.hosts), default=1))
    hosts = np.full((experts, width), -1, np.int16)
    cumulative = np.ones((experts, width))
    for e in range(experts):
        shares = sorted((s for s in entry.hosts[target[e]] if alive[s.node]), key=lambda s: s.node)
        if shares:
            weights = np.array([s.weight for s in shares])
            hosts[e, : len(shares)] = [s.node for s in shares]
            cumulative[e, : len(shares) - 1] = (np.cumsum(weights) / weights.sum())[:-1]
    return LayerGate(
        np.array(entry.factor, np.float32) * np.float32(plan.scale) if entry.factor else plan.scale,
        min(plan.coverage, entry.coverage), plan.k_min, plan.k_max, plan.threshold,
        np.array(entry.price, np.float32), hosts[:, 0] >= 0, target, hosts, cumulative,
    )  # fmt: skip


_WORD = 0xFFFFFFFFFFFFFFFF
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = (np.uint64(n) for n in (30, 27, 31, 11))


def _seed(request: int, layer: int) -> int:
    return (request * 0x9E3779B97F4A7C15 + layer * 0xD1B54A32D192ED03) & _WORD


def one_fraction(request: int, position: int, layer: int) -> float:
    """`row_fraction` of one row."""
    y = (position + _seed(request, layer)) & _WORD
    y = ((y ^ (y >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    y = ((y ^ (y >> 27)) * 0x94D049BB133111EB) & _WORD
    return ((y ^ (y >> 31)) >> 11) * 2.0**-53


def row_fraction(request: int, first_position: int, rows: int, layer: int) -> NDArray[np.float64]:
    """[rows] numbers in [0, 1) that depend only on (request, position, layer): splitmix64's finaliser."""
    if rows == 1:
        return np.array([one_fraction(request, first_position, layer)])
    seed = _seed(request, layer)
    x = np.arange(first_position, first_position + rows, dtype=np.uint64) + np.uint64(seed)
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return ((x ^ (x >> _S31)) >> _S11).astype(np.float64) * 2.0**-53


@lru_cache
def pick_offsets(picks: int) -> tuple[float, ...]:
    """[picks] van der Corput's sequence in base 2: 0, 1/2, 1/4, 3/4 ... Taken off a row's fraction, modulo 1, spreads
    the row's experts over their replicas in proportion to the replicas' weights, whichever prefix is kept."""
    bits = max(1, (picks - 1).bit_length())
    return tuple(int(f"{pick:0{bits}b}"[::-1], 2) / 2.0**bits for pick in range(picks))
