"""Which way a simulated frame takes, and what else links carry: a plan's ways and loads, or relays as on a board."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hil_config.path import quickest_path
from hil_config.wire.link_state import LinkState
from hil_config.wire.plan import SelectionPlan

PATH_FRESH_S = 0.1
"""A path over relays is used for so many host seconds before it is looked for again, as on a board."""

Link = Callable[[str, str], LinkState]
Pair = tuple[str, str]


class Ways:
    """Args:

    routed: frames go the ways that plans name. relay: a peer whose link is down is reached over others.
    link: the state of a directed link now.
    """

    def __init__(self, nodes: tuple[str, ...], routed: bool, relay: bool, link: Link) -> None:
        self._nodes = nodes
        self._routed = routed
        self._relay = relay
        self._link = link
        self._planned: dict[Pair, tuple[str, ...]] = {}
        self._found: dict[Pair, tuple[float, tuple[str, ...] | None]] = {}
        self.loads: dict[Pair, tuple[tuple[float, float, float], ...]] = {}

    @property
    def direct(self) -> bool:
        """Can frames take nothing but the link itself?"""
        return not (self._planned or self._relay)

    def take(self, plan: SelectionPlan) -> None:
        """The ways of frames from now on, and what else links carry: (begins, ends, share), scenario seconds."""
        names = plan.nodes
        if self._routed:
            self._planned = {(names[w[0]], names[w[-1]]): tuple(names[n] for n in w[1:]) for w in plan.routes}
        self.loads = {}
        for load in plan.loads:
            pair = names[load.source], names[load.target]
            self.loads[pair] = (*self.loads.get(pair, ()), (load.start_s, load.end_s, load.share))

    def rate_left(self, pair: Pair, at_s: float) -> float:
        """Share of a link's rate that frames have at a scenario second."""
        left = 1.0
        for begins_s, ends_s, share in self.loads.get(pair, ()):
            if begins_s <= at_s < ends_s:
                left *= 1.0 - share
        return left

    def forget(self) -> None:
        """A node is gone."""
        self._found.clear()

    def over(self, source: str, target: str, now_s: float, dead: set[str]) -> tuple[str, ...] | None:
        """The nodes after `source` that a frame to `target` goes over; None where it takes the link itself, or none."""
        way = self._planned.get((source, target))
        if way is not None and all(self._link(a, b).up for a, b in pairwise((source, *way))):
            return way
        if not self._relay or self._link(source, target).up:
            return None
        found = self._found.get((source, target))
        if found is None or now_s - found[0] >= PATH_FRESH_S:
            path = quickest_path(source, target, [n for n in self._nodes if n not in dead], self._link)
            found = self._found[source, target] = (now_s, path[0] if path else None)
        return found[1]
