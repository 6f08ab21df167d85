"""The quickest path over links that are up: what a source-routed frame follows. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from hil_config.wire.link_state import LinkState
from hil_config.wire.plan import MAX_HOPS


def quickest_path(
    source: str, target: str, nodes: Iterable[str], link: Callable[[str, str], LinkState]
) -> tuple[tuple[str, ...], float] | None:
    """(the nodes after `source` up to `target`, seconds of delay), or None where no path of `MAX_HOPS` exists.

    Dijkstra over delay; of equals the one with fewer hops, then the first by name.
    """
    others = sorted(set(nodes) | {target})
    waiting: list[tuple[float, int, tuple[str, ...]]] = [(0.0, 0, ())]
    done: dict[str, int] = {}
    while waiting:
        delay_s, hops, path = heapq.heappop(waiting)
        here = path[-1] if path else source
        if here == target:
            return path, delay_s
        if done.get(here, MAX_HOPS + 1) <= hops or hops == MAX_HOPS:
            continue
        done[here] = hops
        for node in others:
            if node in {here, source, *path}:
                continue
            state = link(here, node)
            if state.up and state.rate_bit_s > 0.0:
                heapq.heappush(waiting, (delay_s + state.delay_s, hops + 1, (*path, node)))
    return None
