"""The selection plan: what the ground decides each tick and the board that holds the router applies per token."""

from __future__ import annotations

import msgspec


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One replica of an expert: an index into `SelectionPlan.nodes` and its share of the rows (> 0)."""

    node: int
    weight: float


class LayerPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For one MoE layer: price, hosts and substitute per expert, each of length `experts`.

    `hosts[e]` empty: nobody may serve expert e now. `substitute[e]`: the expert used instead, or -1. `factor[e]`
    multiplies the score before the price is taken off (empty: 1 for all); `coverage` bounds the layer like the plan's.
    """

    price: tuple[float, ...]
    hosts: tuple[tuple[Share, ...], ...]
    substitute: tuple[int, ...]
    factor: tuple[float, ...] = ()
    coverage: float = 1.0


class GatewaySlice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A trunk range [first, last] and the nodes that may run it, best first."""

    first: int
    last: int
    nodes: tuple[str, ...]


class SelectionPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Versioned prices, limits and hosts (architecture: gate and dispatch).

    utility = scale * factor * score - price; experts in falling utility until the covered mixing mass reaches
    `coverage`; at least `k_min`, at most `k_max`; beyond `k_min`, none whose utility is below `threshold`.
    `ttl_s` is host seconds after receipt; an expired plan falls back to plain top-k on its hosts.
    """

    version: int
    epoch: int
    issued_s: float
    ttl_s: float
    policy: str
    reason: str
    scale: float
    coverage: float
    k_min: int
    k_max: int
    threshold: float
    nodes: tuple[str, ...]
    gateways: tuple[GatewaySlice, ...]
    layers: tuple[LayerPlan, ...]
