"""Which nodes may serve which expert now: the one rule every selection policy shares.

A node is usable when it is alive and in service. A layer's gateway is the first usable node of the trunk
slice that contains the layer. A host is eligible for a layer when it is usable and the links between it
and that gateway are up both ways; the gateway itself always is.
"""

from __future__ import annotations

import math

from ground_controller.policies.view import NodeView, View
from hil_config.wire.plan import GatewaySlice

HostTable = tuple[tuple[tuple[int, ...], ...], ...]
"""[layer][expert]: eligible node indices, in the order of the view's holders (primary first)."""


def usable(node: NodeView) -> bool:
    """May take new work."""
    return node.alive and node.in_service


def slice_gateway(view: View, piece: GatewaySlice) -> int | None:
    """Index of the node that runs the slice now, or None when none of its nodes may."""
    index = {node.name: position for position, node in enumerate(view.nodes)}
    for name in piece.nodes:
        position = index.get(name)
        if position is not None and usable(view.nodes[position]):
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


def reachable(view: View, gateway: int) -> frozenset[int]:
    """Usable nodes whose links with `gateway` are up both ways, and `gateway` itself when usable."""
    return frozenset(
        index
        for index, node in enumerate(view.nodes)
        if usable(node)
        and (
            index == gateway
            or (math.isfinite(view.delay_s[gateway, index]) and math.isfinite(view.delay_s[index, gateway]))
        )
    )


def eligible_hosts(view: View) -> HostTable:
    """Who may serve each expert of each layer. A layer without a gateway has no eligible host."""
    reach: dict[int, frozenset[int]] = {}
    table: list[tuple[tuple[int, ...], ...]] = []
    for layer, gateway in enumerate(layer_gateways(view)):
        if gateway is None:
            table.append(((),) * view.model.experts)
            continue
        if gateway not in reach:
            reach[gateway] = reachable(view, gateway)
        near = reach[gateway]
        table.append(tuple(tuple(node for node in held if node in near) for held in view.holders[layer]))
    return tuple(table)


def shortfall(view: View, hosts: HostTable) -> str:
    """A clause for a reason, empty when all is well: nodes that take no work, nodes that a gateway cannot
    reach, experts nobody may serve."""
    parts = []
    away = sorted(node.name for node in view.nodes if not usable(node))
    if away:
        parts.append(f"{', '.join(away)} {'takes' if len(away) == 1 else 'take'} no work")
    able = {index for index, node in enumerate(view.nodes) if usable(node)}
    for gateway in sorted(
        {node for node in layer_gateways(view) if node is not None}, key=lambda node: view.nodes[node].name
    ):
        cut = sorted(view.nodes[index].name for index in able - reachable(view, gateway))
        if cut:
            parts.append(f"{', '.join(cut)} out of reach of {view.nodes[gateway].name}")
    lost = sum(not held for layer in hosts for held in layer)
    if lost:
        parts.append(f"{lost} of {sum(len(layer) for layer in hosts)} experts have no host")
    return "; ".join(parts)
