"""The constellation of arXiv 2605.00515 and its paths: snapshots of a polar shell whose laser links come and go.

33 planes of 32 satellites at 550 km and 87 degrees, at most four links each (two in the plane, one to each neighbour
plane), a link lost in a snapshot with probability 0.05, 200 snapshots over one orbit. What the paper's text as known to
us leaves open is a knob here: how far the planes spread, their phasing, whether the last plane is linked to the first,
and the unit of the tracking limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.topology import LinkRule, pairs_that_stand
from ground_controller.orbit.visibility import delay_s
from ground_controller.orbit.walker import WalkerShell

Float = NDArray[np.float64]
Int = NDArray[np.int64]

PLANNED = 1_000_003
"""Added to the seed of link losses for planning: the planner knows how often links fail, not which will."""


@dataclass(frozen=True)
class Sky:
    """A shell and its links.

    Args:
        spread: `star` spreads the planes over 180 degrees, `delta` over 360.
        seam: link the last plane to the first, each satellite to the nearest there.
        turn_rad_s: a link whose line of sight turns faster is not tracked.
        survival: probability that a link stands in a snapshot.
    """

    planes: int = 33
    per_plane: int = 32
    altitude_km: float = 550.0
    inclination_deg: float = 87.0
    spread: Literal["star", "delta"] = "star"
    phasing: float = 0.0
    seam: bool = False
    turn_rad_s: float = 0.12
    survival: float = 0.95
    snapshots: int = 200
    seed: int = 0

    @property
    def shell(self) -> WalkerShell:
        return WalkerShell(
            self.altitude_km, self.inclination_deg, self.planes, self.per_plane, self.phasing, self.spread
        )

    @property
    def count(self) -> int:
        return self.planes * self.per_plane


def snapshot_delays(sky: Sky, which: Int, planning: bool = False) -> Iterator[tuple[Int, Int, Float]]:
    """Links that stand, snapshot by snapshot: ends a < b [E] and one-way delay [E] in s.

    Args:
        which: numbers of the snapshots. planning: draw other losses than those that happen.
    """
    shell = sky.shell
    slot_s = shell.period_s / sky.snapshots
    rule = LinkRule(
        rule="grid", max_range_km=math.inf, max_turn_deg_s=math.degrees(sky.turn_rad_s), survival=sky.survival,
        redraw_s=slot_s, seed=sky.seed + (PLANNED if planning else 0),
    )  # fmt: skip
    one, other = _grid(sky)
    for number in which.tolist():
        time_s = np.array([(number + 0.5) * slot_s])
        position, velocity = shell.states(time_s)
        a, b = one, other
        if sky.seam:
            last, first = _seam(sky, position[0])
            a, b = np.r_[one, first], np.r_[other, last]
        for found in pairs_that_stand(rule, a, b, position, velocity, time_s):
            yield found.a, found.b, delay_s(found.distance_km)


def paths_s(count: int, a: Int, b: Int, delay: Float, sources: Int) -> Float:
    """Delay [K, count] of the shortest paths from `sources` [K]; infinity where there is none (Dijkstra in scipy)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    links = csr_array((np.r_[delay, delay], (np.r_[a, b], np.r_[b, a])), shape=(count, count))
    return np.asarray(dijkstra(links, indices=sources), np.float64)


def expected_s(sky: Sky, snapshots: int) -> Float:
    """Mean path delay [S, S] a planner expects from `snapshots` of the orbit, losses drawn apart from what happens.

    A pair without a path counts at the largest delay of that snapshot.
    """
    which = np.unique(np.linspace(0, sky.snapshots - 1, min(snapshots, sky.snapshots)).round().astype(np.int64))
    everybody = np.arange(sky.count)
    total = np.zeros((sky.count, sky.count))
    for a, b, delay in snapshot_delays(sky, which, planning=True):
        found = paths_s(sky.count, a, b, delay, everybody)
        total += np.where(np.isfinite(found), found, found[np.isfinite(found)].max())
    return total / which.size


def _grid(sky: Sky) -> tuple[Int, Int]:
    """+Grid without the links between the last plane and the first, which `seam` decides."""
    a, b = sky.shell.grid()
    wraps = (a // sky.per_plane == 0) & (b // sky.per_plane == sky.planes - 1) & (sky.planes > 2)
    return a[~wraps], b[~wraps]


def _seam(sky: Sky, position: Float) -> tuple[Int, Int]:
    """Pairs (last plane, first plane) that are each other's nearest."""
    last = np.arange((sky.planes - 1) * sky.per_plane, sky.count)
    first = np.arange(sky.per_plane)
    apart = np.linalg.norm(position[last][:, None] - position[first][None], axis=-1)
    to, back = apart.argmin(axis=1), apart.argmin(axis=0)
    mutual = back[to] == np.arange(last.size)
    return last[mutual], first[to[mutual]]
