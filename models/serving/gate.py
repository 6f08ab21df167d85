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

import numpy as np
from numpy.typing import NDArray

from hil_config.wire.manifest import Routing
from models.serving.layer_gate import (
    ALWAYS_UTILITY,
    F32,
    RESERVES,
    Columns,
    LayerGate,
    Picks,
    RowPicks,
    pick_offsets,
)


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
        return select_row(gate, scores[0], routing, float(fraction[0]), None if mixing is None else mixing[0]).picks()
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


def select_row(gate: LayerGate, scores: F32, routing: Routing, fraction: float, mixing: F32 | None = None) -> RowPicks:
    """`select` for one row [E], to the last bit, at a fraction of the instructions: what a decoded token pays."""
    columns, k, plain = gate.columns, gate.k_max, gate.plain and not routing.always_on
    ranked = (-scores).argsort(kind="stable")
    if plain:
        utility, order = scores, ranked[: k + RESERVES]
    else:
        utility = _utility(gate, scores, routing)
        order = (-utility).argsort(kind="stable")[: k + RESERVES]
    chosen = order.tolist()
    if plain and columns.takes_all and k == routing.top_k and mixing is None and not routing.normalise_top_k:
        weights: list[float] = scores.take(order).tolist()
        if weights[k - 1] > 0.0 and math.isfinite(sum(weights)):  # the model's own picks: of their mass all is kept
            experts = [columns.target[e] for e in chosen]
            hosts = _row_hosts(columns, chosen[:k], fraction)
            return RowPicks(experts[:k], hosts, weights[:k], experts[k:], weights[k:], 1.0, 0)
    u: list[float] = utility.take(order).tolist()
    w, share = _weigh(scores, mixing, ranked[: routing.top_k], order, routing)
    weights = w.tolist()
    if columns.takes_all and math.isfinite(sum(u)):
        experts = [columns.target[e] for e in chosen]
        hosts = _row_hosts(columns, chosen[:k], fraction)
    else:
        kept = _kept(gate, columns, u, w, routing)
        experts = [columns.target[e] if keep else -1 for e, keep in zip(chosen, kept, strict=True)]
        weights = [value if keep else 0.0 for value, keep in zip(weights, kept, strict=True)]
        w = np.where(kept, w, np.float32(0.0))
        hosts = [h if e >= 0 else -1 for h, e in zip(_row_hosts(columns, chosen[:k], fraction), experts, strict=False)]
    rerouted = 0 if gate.all_live else int((~gate.live.take(ranked[: routing.top_k])).sum())
    mass = float(np.add.reduce(w[:k]) / share)
    return RowPicks(experts[:k], hosts, weights[:k], experts[k:], weights[k:], mass, rerouted)


def _utility(gate: LayerGate, scores: F32, routing: Routing) -> F32:
    """Of a row's experts; minus infinity where one is not live."""
    utility = gate.gain * scores - gate.price
    if not gate.all_live:
        utility = np.where(gate.live, utility, -np.inf)
    utility = utility.astype(np.float32, copy=False)
    if routing.always_on:
        tail_utility = utility[-routing.always_on :]
        np.copyto(tail_utility, ALWAYS_UTILITY, where=np.isfinite(tail_utility))
    return utility


def _weigh(
    scores: F32, mixing: F32 | None, own: NDArray[np.intp], order: NDArray[np.intp], routing: Routing
) -> tuple[F32, np.float32]:
    """Mixing weights of `order`, and the sum of those that the model itself would mix."""
    if mixing is not None:
        return mixing.take(order), np.add.reduce(mixing.take(own))
    share, w = np.add.reduce(scores.take(own)), scores.take(order)
    return (w / share, share / share) if routing.normalise_top_k else (w, share)


def _kept(gate: LayerGate, columns: Columns, u: list[float], w: F32, routing: Routing) -> list[bool]:
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


def _row_hosts(columns: Columns, chosen: list[int], fraction: float) -> list[int]:
    """Which replica serves each pick of a row."""
    last = columns.last
    if not last:
        return [columns.hosts[e][0] for e in chosen]
    hosts = []
    for e, offset in zip(chosen, columns.offsets, strict=True):
        part = fraction - offset
        part += part < 0.0
        hosts.append(columns.hosts[e][min(bisect_right(columns.cumulative[e], part), last)])
    return hosts
