"""Which nodes may serve which expert now: the one rule every selection policy shares.

A node is usable when it is alive and in service. A layer's gateway is the first usable node of the trunk
slice that contains the layer. A host is eligible for a layer when it is usable and the links between it
and that gateway are up both ways; the gateway itself always is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ground_controller.policies.nodes import Bool, NodeView
from ground_controller.policies.view import View
from hil_config.wire.plan import GatewaySlice

HostTable = tuple[tuple[tuple[int, ...], ...], ...]
"""[layer][expert]: eligible node indices, in the order of the view's holders (primary first)."""

MOST_NAMED = 12
"""Names, or gateways, that a reason lists before it counts the rest."""


def usable(node: NodeView) -> bool:
    """May take new work."""
    return node.alive and node.in_service


def slice_gateway(view: View, piece: GatewaySlice) -> int | None:
    """Index of the node that runs the slice now, or None when none of its nodes may."""
    nodes = view.columns
    for name in piece.nodes:
        position = nodes.position.get(name)
        if position is not None and nodes.usable[position]:
            return position
    return None


def layer_gateways(view: View) -> tuple[int | None, ...]:
    """The gateway of each layer, None where a layer has none."""
    gateways: list[int | None] = [None] * view.model.layers
    for piece in view.gateways:
        node = slice_gateway(view, piece)
        for layer in range(max(piece.first, 0), min(piece.last + 1, view.model.layers)):
            gateways[layer] = node
    return tuple(gateways)


def in_reach(view: View, gateway: int) -> Bool:
    """[N]: usable nodes whose links with `gateway` are up both ways, and `gateway` itself when usable."""
    linked = np.isfinite(view.delay_s[gateway, :]) & np.isfinite(view.delay_s[:, gateway])
    linked[gateway] = True
    return np.asarray(linked & view.columns.usable)


def reachable(view: View, gateway: int) -> frozenset[int]:
    """`in_reach` as a set of indices."""
    return frozenset(np.flatnonzero(in_reach(view, gateway)).tolist())


def eligible_hosts(view: View) -> HostTable:
    """Who may serve each expert of each layer. A layer without a gateway has no eligible host."""
    reach: dict[int, list[bool]] = {}
    table: list[tuple[tuple[int, ...], ...]] = []
    for layer, gateway in enumerate(layer_gateways(view)):
        if gateway is None:
            table.append(((),) * view.model.experts)
            continue
        if gateway not in reach:
            reach[gateway] = in_reach(view, gateway).tolist()
        near = reach[gateway]
        table.append(tuple([tuple([node for node in held if near[node]]) for held in view.holders[layer]]))
    return tuple(table)


def shortfall(view: View, hosts: HostTable) -> str:
    """A clause for a reason, empty when all is well: nodes that take no work, nodes that a gateway cannot
    reach, experts nobody may serve."""
    parts = []
    nodes = view.columns
    away = _named(nodes.names, ~nodes.usable)
    if away:
        parts.append(f"{listed(away)} {'takes' if len(away) == 1 else 'take'} no work")
    gateways = {node for node in layer_gateways(view) if node is not None}
    short = []
    for gateway in sorted(gateways, key=lambda node: nodes.names[node]):
        cut = _named(nodes.names, nodes.usable & ~in_reach(view, gateway))
        if cut:
            short.append(f"{listed(cut)} out of reach of {nodes.names[gateway]}")
    parts += short[:MOST_NAMED]
    if len(short) > MOST_NAMED:
        parts.append(f"{len(short) - MOST_NAMED} more gateways have nodes out of reach")
    lost = sum(not held for layer in hosts for held in layer)
    if lost:
        parts.append(f"{lost} of {sum(len(layer) for layer in hosts)} experts have no host")
    return "; ".join(parts)


def listed(names: Sequence[str]) -> str:
    """Names for a reason: all of a few, the first of many and how many more."""
    few = ", ".join(names[:MOST_NAMED])
    return few if len(names) <= MOST_NAMED else f"{few} and {len(names) - MOST_NAMED} more"


def _named(names: tuple[str, ...], which: Bool) -> list[str]:
    return sorted([names[at] for at in np.flatnonzero(which).tolist()])
