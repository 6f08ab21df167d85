"""Which satellites have a laser or radio link at an instant: rules over geometry."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ground_controller.compiled import compiled
from ground_controller.orbit.kernels import link_geometry, neighbours
from ground_controller.orbit.visibility import GRAZING_KM
from hil_config.errors import ConfigError

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class LinkRule:
    """How satellites are linked.

    `in_range`: all in sight and range. `nearest`: at most `neighbours` a satellite, the shortest first.
    `grid`: +Grid of Walker shells (in plane both ways, one to each neighbouring plane).
    `max_turn_deg_s`: a terminal follows no faster line of sight. `survival`: probability that a link exists at all,
    drawn from (seed, numbers of the pair) once, or anew every `redraw_s`.
    """

    rule: Literal["in_range", "nearest", "grid"] = "in_range"
    neighbours: int = 4
    grazing_km: float = GRAZING_KM
    max_range_km: float = 5_000.0
    max_turn_deg_s: float = math.inf
    survival: float = 1.0
    redraw_s: float = math.inf
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rule not in {"in_range", "nearest", "grid"}:
            raise ConfigError(f"isl: rule is {self.rule!r}, wanted in_range, nearest or grid")
        if not 1 <= self.neighbours <= 1_000:
            raise ConfigError(f"isl: neighbours is {self.neighbours}, wanted 1 to 1000")
        for name in ("max_turn_deg_s", "redraw_s", "max_range_km"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"isl: {name} is {getattr(self, name)}, wanted more than 0")
        if not 0.0 <= self.survival <= 1.0 or not math.isfinite(self.grazing_km):
            raise ConfigError(f"isl: survival {self.survival} or grazing_km {self.grazing_km} cannot be")


class Edges(NamedTuple):
    """Links that stand at an instant: ends a < b [E] and lengths [E] in km."""

    a: Int
    b: Int
    distance_km: Float


def survives(rule: LinkRule, a: Int, b: Int, time_s: float) -> Bool:
    """The draw of each link: the same for a pair whatever else is asked (SplitMix64 of seed, ends and draw)."""
    if rule.survival >= 1.0:
        return np.ones(a.shape, np.bool_)
    draw = 0 if math.isinf(rule.redraw_s) else int(time_s // rule.redraw_s)
    x = np.minimum(a, b).astype(np.uint64) << np.uint64(32) | np.maximum(a, b).astype(np.uint64)
    for salt in (rule.seed, draw):
        x = _mixed(x ^ _mixed(np.array([salt % 2**64], np.uint64)))
    return np.asarray((x >> np.uint64(11)).astype(np.float64) * 2.0**-53 < rule.survival)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def pairs_that_stand(
    rule: LinkRule, a: Int, b: Int, position: Float, velocity: Float, time_s: Float
) -> Iterator[Edges]:
    """Of given pairs (a +Grid, or the mapped satellites alone), those with a link, instant by instant.

    Args:
        position, velocity: [T, S, 3]; time_s: [T].
    """
    found = link_geometry(position, velocity, a, b)
    clear = (found.lowest_km >= rule.grazing_km) & (found.distance_km <= rule.max_range_km)
    clear &= found.turn_rad_s <= math.radians(rule.max_turn_deg_s)
    for n, t in enumerate(time_s.tolist()):
        up = clear[n] & survives(rule, a, b, t)
        yield Edges(a[up], b[up], found.distance_km[n, up])


def edges(
    rule: LinkRule, grid: tuple[Int, Int] | None, position: Float, velocity: Float, time_s: Float
) -> Iterator[Edges]:
    """The links of all satellites, instant by instant. `grid`: the ends of the +Grid, for that rule."""
    if rule.rule == "grid":
        assert grid is not None
        yield from pairs_that_stand(rule, *grid, position, velocity, time_s)
        return
    for n, t in enumerate(time_s.tolist()):
        a, b, distance = neighbours(position[n], rule.max_range_km, rule.grazing_km)
        keep = survives(rule, a, b, t)
        if math.isfinite(rule.max_turn_deg_s):
            turn = link_geometry(position[n : n + 1], velocity[n : n + 1], a, b).turn_rad_s[0]
            keep &= turn <= math.radians(rule.max_turn_deg_s)
        a, b, distance = a[keep], b[keep], distance[keep]
        if rule.rule == "nearest":
            order = np.argsort(distance, kind="stable")  # ties: as listed, by (a, b)
            chosen = np.sort(order[_shortest_first(a[order], b[order], position.shape[1], rule.neighbours)])
            a, b, distance = a[chosen], b[chosen], distance[chosen]
        yield Edges(a, b, distance)


@compiled
def _shortest_first(a: Int, b: Int, satellites: int, most: int) -> Bool:
    """Which links are taken, in the order given, while both ends have a terminal left."""
    used = np.zeros(satellites, np.int64)
    taken = np.zeros(a.size, np.bool_)
    for e in range(a.size):
        if used[a[e]] < most and used[b[e]] < most:
            taken[e] = True
            used[a[e]] += 1
            used[b[e]] += 1
    return taken
