"""A precision for every expert (or none at all) under a budget: the multiple-choice knapsack problem.

Minimise the summed rise in nats, one option an expert, summed weight at most the budget. Weights are bytes or joules.
Options of one expert are first thinned to the lower convex hull; filling along the hull in falling efficiency solves
the continuous problem (Sinha & Zoltners 1979), whose value is a lower bound for every allocation. The answer is the
better of that filling, rounded down, and a dynamic programme over the weight: exact where all weights are multiples
of one unit (bytes), else in units of 1/GRID of the budget, rounded up so that the budget holds. The gap between
answer and bound is stated; 0 means proven best.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hil_config.errors import UsageError
from hil_config.wire.importance import Importance
from hil_config.wire.manifest import Shard

GRID = 4096
EXACT = 1 << 16
PAGE = 256
DROP = "drop"
Place = tuple[int, int]


class Option(NamedTuple):
    """One way to treat one expert. `nats` >= 0, `weight` >= 0."""

    name: str
    weight: float
    nats: float


@dataclass(frozen=True)
class Allocation:
    """`choice` by (layer, expert); `nats` and `weight` summed over them; no allocation is below `bound` nats."""

    choice: dict[Place, str]
    nats: float
    weight: float
    budget: float
    bound: float

    @property
    def gap(self) -> float:
        """Nats by which a better allocation could at most be better."""
        return max(0.0, self.nats - self.bound)

    def counts(self) -> dict[str, int]:
        names = list(self.choice.values())
        return {name: names.count(name) for name in sorted(set(names))}


def options(
    importance: Importance, weights: Mapping[str, Sequence[Sequence[float]]], drop: bool = True
) -> dict[Place, list[Option]]:
    """What can be done with each expert. `weights[precision][layer][expert]`: what it costs of the budget."""
    out: dict[Place, list[Option]] = {}
    for layer, row in enumerate(importance.drop_nats):
        for expert, nats in enumerate(row):
            found = [
                Option(c.precision, float(weights[c.precision][layer][expert]), c.nats[layer][expert])
                for c in importance.precisions
                if c.precision in weights
            ]
            if drop:
                found.append(Option(DROP, 0.0, nats))
            out[layer, expert] = found
    return out


def byte_weights(importance: Importance, shards: Sequence[Shard] = ()) -> dict[str, list[list[float]]]:
    """Bytes of each shard, rounded up to PAGE so that the programme over them is exact.

    `shards`: of a folder, whose sizes count. At a precision that it has not, an expert is as much larger than the mean
    as at those that it has (a shared expert is of another width than the others).
    """
    held: dict[str, dict[Place, int]] = {}
    for shard in shards:
        if shard.kind == "expert":
            held.setdefault(shard.precision, {})[shard.layer, shard.expert] = shard.bytes
    means = {precision: float(np.mean(list(sizes.values()))) for precision, sizes in held.items()}

    def size(precision: str, mean: int, place: Place) -> float:
        found = held.get(precision, {}).get(place)
        if found is None:
            share = next((sizes[place] / means[p] for p, sizes in held.items() if place in sizes), 1.0)
            found = round(mean * share)
        return float(-(-found // PAGE) * PAGE)

    return {
        c.precision: [
            [size(c.precision, c.bytes, (layer, expert)) for expert in range(len(row))]
            for layer, row in enumerate(importance.activation)
        ]
        for c in importance.precisions
    }


def energy_weights(importance: Importance, joules_per_call: Mapping[str, float]) -> dict[str, list[list[float]]]:
    """Joules a token: how often an expert is called, times the joules of one call at each precision."""
    return {
        c.precision: [[share * joules_per_call[c.precision] for share in row] for row in importance.activation]
        for c in importance.precisions
        if c.precision in joules_per_call
    }


def allocate(choices: Mapping[Place, Sequence[Option]], budget: float) -> Allocation:
    """The best allocation within `budget`, or UsageError naming the least that is possible."""
    least = sum(min(option.weight for option in found) for found in choices.values())
    if budget < least or not np.isfinite(budget):
        raise UsageError(
            f"budget {budget:g}: the cheapest allocation needs {least:g}", f"give at least {least:g}, or allow dropping"
        )
    hulls = {place: hull(found) for place, found in choices.items()}
    filled, bound = _fill(hulls, budget)
    programmed, exact = _programme(choices, budget)
    picked = min((programmed, filled), key=lambda p: sum(o.nats for o in p.values()))
    nats, weight = sum(o.nats for o in picked.values()), sum(o.weight for o in picked.values())
    return Allocation(
        {place: o.name for place, o in picked.items()}, nats, weight, budget, nats if exact else min(bound, nats)
    )


def hull(found: Sequence[Option]) -> list[Option]:
    """Options worth taking: falling nats for rising weight, at falling efficiency."""
    out: list[Option] = []
    for option in sorted(found, key=lambda o: (o.weight, o.nats)):
        if out and option.nats >= out[-1].nats:
            continue
        while len(out) >= 2 and _gain(out[-2], out[-1]) <= _gain(out[-1], option):
            out.pop()
        out.append(option)
    return out


def _gain(a: Option, b: Option) -> float:
    """Nats saved per unit of weight from a to b."""
    return (a.nats - b.nats) / max(b.weight - a.weight, 1e-300)


def _fill(hulls: Mapping[Place, list[Option]], budget: float) -> tuple[dict[Place, Option], float]:
    """Steps along the hulls in falling efficiency; the first that does not fit ends the bound, not the filling."""
    picked = {place: steps[0] for place, steps in hulls.items()}
    left = budget - sum(option.weight for option in picked.values())
    bound: float | None = None
    nats = sum(option.nats for option in picked.values())
    steps = sorted(
        ((_gain(a, b), place, a, b) for place, line in hulls.items() for a, b in itertools.pairwise(line)),
        key=lambda step: (-step[0], step[1]),
    )
    stuck: set[Place] = set()
    for gain, place, a, b in steps:
        extra = b.weight - a.weight
        if extra > left and bound is None:
            bound = nats - gain * left
        if extra > left or place in stuck:
            stuck.add(place)  # later steps of this expert build on the one that did not fit
            continue
        left -= extra
        nats -= a.nats - b.nats
        picked[place] = b
    return picked, nats if bound is None else bound


def _undominated(found: Sequence[Option]) -> list[Option]:
    """Falling nats for rising weight; unlike the hull, what lies above the line stays."""
    out: list[Option] = []
    for option in sorted(found, key=lambda o: (o.weight, o.nats)):
        if not out or option.nats < out[-1].nats:
            out.append(option)
    return out


def _unit(lines: Sequence[Sequence[Option]], spare: float) -> tuple[float, int]:
    """Weight of one unit and how many the spare budget has: exact for whole-numbered weights of a common measure."""
    extras = [option.weight - line[0].weight for line in lines for option in line[1:]]
    if extras and all(float(extra).is_integer() for extra in extras):
        common = math.gcd(*(int(extra) for extra in extras))
        if common and spare / common <= EXACT:
            return float(common), int(spare // common)
    return spare / GRID, GRID


def _programme(choices: Mapping[Place, Sequence[Option]], budget: float) -> tuple[dict[Place, Option], bool]:
    """Dynamic programme over what the budget leaves beyond the cheapest options; True if its units are exact."""
    places = sorted(choices)
    lines = [_undominated(choices[place]) for place in places]
    spare = budget - sum(line[0].weight for line in lines)
    if spare <= 0:
        return {place: line[0] for place, line in zip(places, lines, strict=True)}, True
    unit, count = _unit(lines, spare)
    exact = unit != spare / GRID

    def size(line: Sequence[Option], option: Option) -> int:
        return math.ceil((option.weight - line[0].weight) / unit - 1e-9)

    best, taken = np.zeros(count + 1), np.zeros((len(places), count + 1), np.int8)
    for row, line in enumerate(lines):
        new = np.full(count + 1, np.inf)
        for index, option in enumerate(line):
            units = size(line, option)
            if units > count:
                continue
            candidate = np.concatenate((np.full(units, np.inf), best[: count + 1 - units] + option.nats))
            better = candidate < new
            new[better] = candidate[better]
            taken[row, better] = index
        best = new
    picked, at = {}, count
    for row in range(len(places) - 1, -1, -1):
        option = lines[row][taken[row, at]]
        picked[places[row]] = option
        at -= size(lines[row], option)
    return picked, exact
