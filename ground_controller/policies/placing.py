"""What placement policies share: checks, central nodes, trunk slices, orders of nodes by path, and further copies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ground_controller.policies.view import PlacementProblem
from hil_config.errors import ConfigError
from hil_config.wire.plan import GatewaySlice

Copies = list[list[list[int]]]
"""[layer][expert]: nodes, the primary first."""


def check_problem(policy: str, problem: PlacementProblem) -> None:
    """ConfigError unless every expert finds a slot and the trunk can be cut as asked."""
    wanted, slots = problem.model.layers * problem.model.experts, sum(problem.slots)
    if not problem.nodes or len(set(problem.nodes)) != len(problem.nodes):
        raise ConfigError(f"policy {policy}: nodes {problem.nodes}: wanted at least one, names all different")
    if not 1 <= problem.trunk_slices <= problem.model.layers:
        raise ConfigError(
            f"policy {policy}: trunk_slices is {problem.trunk_slices}, wanted 1 to {problem.model.layers} (layers)"
        )
    if problem.replicas < 0 or min(problem.slots) < 0:
        raise ConfigError(f"policy {policy}: replicas {problem.replicas} or slots {problem.slots} below 0")
    if slots < wanted:
        raise ConfigError(
            f"policy {policy}: {wanted} experts ({problem.model.layers} layers of {problem.model.experts})"
            f" do not fit the {slots} slots of {len(problem.nodes)} nodes",
            "add nodes, raise their memory or use a smaller precision",
        )


def ring_order(problem: PlacementProblem) -> list[int]:
    """Nodes by their place in the orbit, then by name."""
    place = problem.ring or (0.0,) * len(problem.nodes)
    return sorted(range(len(problem.nodes)), key=lambda node: (place[node], problem.nodes[node]))


def ring_subnets(problem: PlacementProblem) -> list[list[int]]:
    """One piece of the ring for each slice; where there are more slices than nodes, pieces are used again."""
    ring, pieces = ring_order(problem), min(problem.trunk_slices, len(problem.nodes))
    cut = [ring[i * len(ring) // pieces : (i + 1) * len(ring) // pieces] for i in range(pieces)]
    return [cut[i % pieces] for i in range(problem.trunk_slices)]


def free_slots(problem: PlacementProblem, gateways: Sequence[GatewaySlice]) -> list[int]:
    """Experts that each node may hold once the gateways are chosen."""
    first = {piece.nodes[0] for piece in gateways} if problem.dedicated_gateways else set()
    free = [0 if name in first else room for name, room in zip(problem.nodes, problem.slots, strict=True)]
    wanted = problem.model.layers * problem.model.experts
    if sum(free) < wanted:
        raise ConfigError(
            f"{wanted} experts do not fit the {sum(free)} slots that dedicated gateways leave",
            "add nodes, or let gateways hold experts",
        )
    return free


def central_nodes(problem: PlacementProblem) -> list[int]:
    """Nodes by falling centrality: rising sum of expected delay to and from all others."""
    delay = problem.expected_delay_s
    total = [math.fsum([*delay[node, :], *delay[:, node]]) for node in range(len(problem.nodes))]
    return sorted(range(len(problem.nodes)), key=lambda node: (total[node], problem.nodes[node]))


def cut_slices(problem: PlacementProblem, central: Sequence[int]) -> tuple[GatewaySlice, ...]:
    """Near-equal layer ranges. Primaries are the most central nodes, distinct while they last; standbys
    the next most central, so that a node has two trunk roles only when there are too few nodes."""
    layers, pieces, nodes = problem.model.layers, problem.trunk_slices, len(central)
    answer = []
    for piece in range(pieces):
        first, end = piece * layers // pieces, (piece + 1) * layers // pieces
        primary = piece % nodes
        standby = (min(pieces, nodes) + piece) % nodes
        if standby == primary:
            standby = (primary + 1) % nodes
        names = tuple(problem.nodes[central[place]] for place in dict.fromkeys((primary, standby)))
        answer.append(GatewaySlice(first, end - 1, names))
    return tuple(answer)


def layer_orders(problem: PlacementProblem, gateways: Sequence[GatewaySlice]) -> list[list[int]]:
    """For each layer, nodes by rising expected path through them."""
    index = {name: node for node, name in enumerate(problem.nodes)}
    at = [index[piece.nodes[0]] for piece in gateways for _ in range(piece.first, piece.last + 1)]
    delay = problem.expected_delay_s
    orders = []
    for here, after in zip(at, [*at[1:], at[-1]], strict=True):
        path = delay[here, :] + delay[:, after]
        orders.append(sorted(range(len(problem.nodes)), key=lambda node: (float(path[node]), problem.nodes[node])))
    return orders


def ranking(worth: Sequence[float]) -> list[int]:
    """Experts of a layer by falling worth, then by number."""
    return sorted(range(len(worth)), key=lambda expert: (-worth[expert], expert))


def replicate(
    problem: PlacementProblem,
    orders: Sequence[Sequence[int]],
    ranks: Sequence[Sequence[int]],
    free: list[int],
    copies: Copies,
) -> int:
    """Add further copies, busiest experts of all layers first; returns how many found no room.

    A copy goes to the nearest of the nodes that so far have the fewest copies of this layer in this round,
    have room and do not hold the expert.
    """
    missing = 0
    for _ in range(problem.replicas):
        taken = [dict.fromkeys(order, 0) for order in orders]
        for rank in range(problem.model.experts):
            for layer, order in enumerate(orders):
                held = copies[layer][ranks[layer][rank]]
                open_to = [node for node in order if free[node] > 0 and node not in held]
                if not open_to:
                    missing += not _swap_in(held, copies, free)
                    continue
                node = min(open_to, key=lambda candidate: taken[layer][candidate])
                held.append(node)
                taken[layer][node] += 1
                free[node] -= 1
    return missing


def _swap_in(held: list[int], copies: Copies, free: list[int]) -> bool:
    """Place a copy although only nodes that hold the expert have room: another expert's copy moves there and
    gives up its place. False when no such move exists."""
    spare = [node for node in held if free[node] > 0]
    for other in (each for layer in copies for each in layer):
        for place in range(1, len(other)):
            target = next((node for node in spare if node not in other), None)
            if target is not None and other[place] not in held:
                held.append(other[place])
                other[place] = target
                free[target] -= 1
                return True
    return False
