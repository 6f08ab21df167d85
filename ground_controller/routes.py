"""Which gateways a request's hidden state passes: one node per trunk slice, every hop of the ring with a link."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

from ground_controller.attempts import Avoid
from ground_controller.policies.view import View


def choose_route(
    view: View, avoid: Avoid = frozenset(), among: Collection[str] | None = None
) -> tuple[str, ...] | None:
    """The gateways with the least delay around the ring (each to the next, the last back to the first).

    Only usable nodes, only links that are up; `avoid` are nodes and ways the client has just seen fail, taken only if
    nothing else is left; `among`: no other nodes than these. None when no ring stands.
    """
    index, usable = view.columns.position, view.columns.usable
    allowed = view.columns.names if among is None else among
    candidates = [[n for n in piece.nodes if usable[index[n]] and n in allowed] for piece in view.gateways]
    best: tuple[int, float, tuple[str, ...]] | None = None
    for route in product(*candidates):
        hops = list(zip(route, route[1:] + route[:1], strict=True))
        length = float(sum(view.delay_s[index[a], index[b]] for a, b in hops))
        if length == float("inf"):
            continue
        # Order of preference: nothing avoided, then the placement's own order, then the shorter ring.
        avoided = len(avoid.intersection(route)) + len(avoid.intersection(hops))
        rank = sum(piece.nodes.index(n) for piece, n in zip(view.gateways, route, strict=True))
        key = (avoided * 100 + rank, length, route)
        if best is None or key < best:
            best = key
    return best[2] if best else None
