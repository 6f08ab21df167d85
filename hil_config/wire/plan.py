"""The selection plan: what the ground decides each tick and the board that holds the router applies per token."""

from __future__ import annotations

import msgspec

from hil_config.wire.hidden_codec import Codec
from hil_config.wire.manifest import Precision

MAX_HOPS = 8
"""Of a source-routed frame."""


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One replica of an expert: an index into `SelectionPlan.nodes` and its share of the rows (> 0)."""

    node: int
    weight: float


class LayerPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For one MoE layer: price, hosts and substitute per expert, each of length `experts`.

    `hosts[e]` empty: nobody may serve expert e now. `substitute[e]`: the expert used instead, or -1. `factor[e]`
    multiplies the score before the price is taken off (empty: 1 for all); `coverage` bounds the layer like the plan's.
    `precision[e][i]`: at which precision `hosts[e][i]` serves expert e (empty: at the one it holds first).
    """

    price: tuple[float, ...]
    hosts: tuple[tuple[Share, ...], ...]
    substitute: tuple[int, ...]
    factor: tuple[float, ...] = ()
    coverage: float = 1.0
    precision: tuple[tuple[Precision, ...], ...] = ()

    def precisions(self) -> dict[tuple[int, int], Precision]:
        """By (expert, node), where the plan says at which precision a host serves."""
        return {
            (expert, share.node): precision
            for expert, (hosts, wanted) in enumerate(zip(self.hosts, self.precision, strict=False))
            for share, precision in zip(hosts, wanted, strict=True)
        }


class LinkRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """For hidden states from node `source` to node `target` (indices into the plan's nodes): at most `most_bytes` of
    tensor in a frame (0: no bound), and the `price` of a frame at full size, in units of lost importance."""

    source: int
    target: int
    most_bytes: int
    price: float


class Transmission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How gateways choose the codec of each frame (`models.serving.transmission`); pairs without a rule use `finest`.

    `sensitivity`: of each layer, relative to the most sensitive one (empty: 1 for all). `drop`: rows that are worth
    less than the smallest frame costs are not sent at all.
    """

    finest: Codec
    links: tuple[LinkRule, ...] = ()
    sensitivity: tuple[float, ...] = ()
    drop: bool = False


class LinkLoad(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Node `source` gives `share` of its line to node `target` to something else (weights on their way) from `start_s`
    to `end_s`, scenario seconds."""

    source: int
    target: int
    start_s: float
    end_s: float
    share: float


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
    `routes`: for pairs whose frames go over other nodes, the whole way as indices into `nodes`.
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
    transmission: Transmission | None = None
    routes: tuple[tuple[int, ...], ...] = ()
    loads: tuple[LinkLoad, ...] = ()
