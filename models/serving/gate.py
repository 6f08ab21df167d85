"""The gate: which experts a row uses, with which weight, on which host.

One fast kernel, the same on a board and in simulation. Per row: utility u = scale * factor * score - price over live
experts, taken in falling u until the covered mixing mass reaches `coverage`, at least `k_min`, at most
`k_max`, and beyond `k_min` none below `threshold`. With price 0, coverage 1 and k_min = k_max = k it is the
model's own top-k. Weights are not renormalised after a skip: on a trained model leaving the missing weight
out cost less perplexity than spreading it over the rest.

Where a router's mixing weights are not its selection scores (sigmoid with a bias, groups, sparsemixer, shared
experts), the trunk gives both, weights finished. Always-on experts come first whatever their price, and their
weight does not count as covered mass.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hil_config.errors import RemoteProtocolError
from hil_config.wire.manifest import Routing
from hil_config.wire.plan import MAX_HOPS, SelectionPlan

F32 = NDArray[np.float32]
I16 = NDArray[np.int16]

RESERVES = 2
"""How many next-best live experts are named per row, for a pick whose every host is lost."""


ALWAYS_UTILITY = np.float32(3e38)
"""Utility of a live always-on expert: above any price."""


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

    def row(self, at: int) -> Picks:
        """One of the rows."""
        one = slice(at, at + 1)
        return Picks(
            self.experts[one], self.hosts[one], self.weights[one], self.reserves[one], self.reserve_weights[one],
            self.kept[one], self.rerouted[one],
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
    def columns(self) -> _Columns:
        """For one row at a time, where a list is quicker than an array."""
        takes_all = self.k_min >= self.k_max and self.coverage >= 1.0
        return _Columns(
            self.target.tolist(), self.hosts.tolist(), self.cumulative.tolist(), self.live.tolist(),
            float(np.float32(self.threshold)), float(np.float32(self.coverage)),
            [True] * min(self.k_max + RESERVES, len(self.target)) if takes_all else [],
        )  # fmt: skip


class _Columns(NamedTuple):
    """A gate's arrays as lists; the bounds as float32 holds them, which is what scores are compared with."""

    target: list[int]
    hosts: list[list[int]]
    cumulative: list[list[float]]
    live: list[bool]
    threshold: float
    coverage: float
    kept: list[bool]
    """Of every row whose utilities are finite, where the plan says so whatever they are; else empty."""


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
    if not (ok and _links_fit(plan, layers)):
        raise RemoteProtocolError(
            f"plan {plan.version} does not fit a model of {layers} layers x {experts} experts",
            "plan and node must come from the same run",
        )


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


def row_fraction(request: int, first_position: int, rows: int, layer: int) -> NDArray[np.float64]:
    """[rows] numbers in [0, 1) that depend only on (request, position, layer): splitmix64's finaliser."""
    seed = (request * 0x9E3779B97F4A7C15 + layer * 0xD1B54A32D192ED03) & _WORD
    if rows == 1:
        y = (first_position + seed) & _WORD
        y = ((y ^ (y >> 30)) * int(_MIX_1)) & _WORD
        y = ((y ^ (y >> 27)) * int(_MIX_2)) & _WORD
        return np.array([((y ^ (y >> 31)) >> 11) * 2.0**-53])
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


def select(
    gate: LayerGate, scores: F32, routing: Routing, fraction: NDArray[np.float64], mixing: F32 | None = None
) -> Picks:
    """Choose experts and hosts for T rows.

    Args:
        scores: float32 [T, E], the model's selection scores; also its mixing weights unless those are given.
        fraction: float64 [T] in [0, 1), picks among replicas (see `row_fraction`): experts with the same replicas
            are shared out within the row, so that its hosts work side by side.
        mixing: float32 [T, E], finished mixing weights, exactly where `routing.separate_weights`.
    """
    if len(scores) == 1:
        return _select_row(gate, scores[0], routing, float(fraction[0]), None if mixing is None else mixing[0])
    first = np.arange(0, scores.size, scores.shape[1])[:, None]  # of each row, in the flat array
    wanted = gate.k_max + RESERVES
    if gate.plain and not routing.always_on:
        order = np.argsort(-scores, axis=1, kind="stable")[:, : max(routing.top_k, wanted)]
        own, order, utility = order[:, : routing.top_k], order[:, :wanted], scores
    else:
        own = np.argsort(-scores, axis=1, kind="stable")[:, : routing.top_k]
        utility = np.where(gate.live, gate.gain * scores - gate.price, -np.inf).astype(np.float32)
        if routing.always_on:
            tail_utility = utility[:, -routing.always_on :]
            np.copyto(tail_utility, ALWAYS_UTILITY, where=np.isfinite(tail_utility))
        order = np.argsort(-utility, axis=1, kind="stable")[:, :wanted]
    if mixing is None:
        own_mass = scores.take(own + first).sum(axis=1, keepdims=True)
        mixing = scores / own_mass if routing.normalise_top_k else scores
        share = own_mass[:, 0] / own_mass[:, 0] if routing.normalise_top_k else own_mass[:, 0]
    else:
        share = mixing.take(own + first).sum(axis=1)
    flat = order + first
    u, w = utility.take(flat), mixing.take(flat)
    finite, head, tail = np.isfinite(u), slice(0, gate.k_max), slice(gate.k_max, None)
    keep = u[:, head] >= gate.threshold
    if gate.coverage < 1.0:
        mass = np.where(u[:, head] == ALWAYS_UTILITY, 0.0, w[:, head]) if routing.always_on else w[:, head]
        before = np.cumsum(mass, axis=1) - mass
        keep &= before < gate.coverage
    keep[:, : gate.k_min] = True
    keep &= finite[:, head]
    chosen = order[:, head]
    weights = np.where(keep, w[:, head], np.float32(0.0))
    experts = np.where(keep, gate.target.take(chosen), np.int16(-1))
    replicas = gate.hosts.shape[1]
    if replicas == 1:
        hosts = gate.hosts.take(chosen)
    else:
        fractions = fraction[:, None] - np.array(pick_offsets(keep.shape[1]))
        fractions += fractions < 0.0  # exact, as a remainder would not be
        replica = (fractions[:, :, None] >= gate.cumulative.take(chosen, axis=0)).sum(axis=2)
        hosts = gate.hosts.take(np.minimum(replica, replicas - 1) + chosen * replicas)
    return Picks(
        experts, np.where(keep, hosts, np.int16(-1)), weights,
        np.where(finite[:, tail], gate.target.take(order[:, tail]), np.int16(-1)),
        np.where(finite[:, tail], w[:, tail], np.float32(0.0)),
        (weights.sum(axis=1) / share).astype(np.float32),
        (~gate.live.take(own)).sum(axis=1),
    )  # fmt: skip


def _select_row(gate: LayerGate, scores: F32, routing: Routing, fraction: float, mixing: F32 | None) -> Picks:
    """`select` for one row [E], to the last bit, at a quarter of the instructions: what a decoded token pays."""
    wanted = gate.k_max + RESERVES
    ranked = (-scores).argsort(kind="stable")
    own = ranked[: routing.top_k]
    if gate.plain and not routing.always_on:
        utility, order = scores, ranked[:wanted]
    else:
        utility = gate.gain * scores - gate.price
        if not gate.all_live:
            utility = np.where(gate.live, utility, -np.inf)
        utility = utility.astype(np.float32, copy=False)
        if routing.always_on:
            tail_utility = utility[-routing.always_on :]
            np.copyto(tail_utility, ALWAYS_UTILITY, where=np.isfinite(tail_utility))
        order = (-utility).argsort(kind="stable")[:wanted]
    if mixing is None:
        share = np.add.reduce(scores.take(own))
        w = scores.take(order)
        if routing.normalise_top_k:
            w, share = w / share, share / share
    else:
        share, w = np.add.reduce(mixing.take(own)), mixing.take(order)
    columns, chosen = gate.columns, order.tolist()
    u = utility.take(order).tolist()
    if columns.kept and math.isfinite(sum(u)):
        kept = columns.kept
    else:
        kept = _kept(gate, columns, u, w, routing)
    experts = [columns.target[e] if keep else -1 for e, keep in zip(chosen, kept, strict=True)]
    weights = w if all(kept) else np.where(kept, w, np.float32(0.0))
    k = gate.k_max
    hosts = _row_hosts(columns, chosen[:k], kept, fraction)
    both = np.array([experts], np.int16)
    return Picks(
        both[:, :k], np.array([hosts], np.int16), weights[None, :k], both[:, k:], weights[None, k:],
        np.array([np.add.reduce(weights[:k]) / share], np.float32),
        np.zeros(1, np.intp) if gate.all_live else (~gate.live.take(own)).sum(keepdims=True),
    )  # fmt: skip


def _kept(gate: LayerGate, columns: _Columns, u: list[float], w: F32, routing: Routing) -> list[bool]:
    """Which of a row's picks and reserves are kept, by their utilities."""
    covered = _covered_before(u[: gate.k_max], w, routing) if gate.coverage < 1.0 else None
    kept: list[bool] = []
    for pick, value in enumerate(u):
        keep = math.isfinite(value)
        if gate.k_min <= pick < gate.k_max:
            keep = keep and value >= columns.threshold and (covered is None or covered[pick] < columns.coverage)
        kept.append(keep)
    return kept


def _covered_before(u: list[float], w: F32, routing: Routing) -> list[float]:
    """Mixing mass of the picks before each pick; always-on experts count for nothing."""
    mass = w[: len(u)]
    if routing.always_on:
        mass = np.where(np.array(u, np.float32) == ALWAYS_UTILITY, np.float32(0.0), mass)
    before: list[float] = (np.cumsum(mass) - mass).tolist()
    return before


def _row_hosts(columns: _Columns, chosen: list[int], kept: list[bool], fraction: float) -> list[int]:
    """Which replica serves each pick of a row, -1 where the pick was left out."""
    if len(columns.hosts[0]) == 1:
        return [columns.hosts[e][0] if keep else -1 for e, keep in zip(chosen, kept, strict=False)]
    hosts, last = [], len(columns.hosts[0]) - 1
    for e, keep, offset in zip(chosen, kept, pick_offsets(len(chosen)), strict=False):
        part = fraction - offset
        part += part < 0.0
        replica = bisect_right(columns.cumulative[e], part)
        hosts.append(columns.hosts[e][min(replica, last)] if keep else -1)
    return hosts
