"""Trade-offs between runs: which of them is not beaten in both of two figures at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ground_controller.report.metrics import Metrics

_TIMES, _POWER, _TWIN = "token and frame times", "power_w", "satellite temperature, charge, wear"


class Figure(NamedTuple):
    """A figure of a run of which less is better. `source`: its name in `Metrics.sources`."""

    name: str
    unit: str
    of: Callable[[Metrics], float | None]
    source: str


PACE = Figure("time per output token, median", "ms", lambda m: m.tpot_ms.get("p50"), _TIMES)
JOULES = Figure("energy gross a token", "J", lambda m: m.gross_j_per_token, _POWER)
GIVEN_UP = Figure("given up against top-k", "nats a token", lambda m: m.given_up_nats, "generated text")
NATS = Figure(
    "nats above fp32 top-k", "nats a token", lambda m: None if m.evaluation is None else m.evaluation.nats_delta,
    "generated text",
)  # fmt: skip
WEAR = Figure("largest wear", "full discharges", lambda m: max(n.wear for n in m.nodes), _TWIN)
HEAT = Figure("hottest die", "C", lambda m: max(n.temperature_peak_c for n in m.nodes), _TWIN)
PAIRS = ((PACE, JOULES), (GIVEN_UP, JOULES), (NATS, JOULES), (PACE, HEAT), (PACE, WEAR), (JOULES, WEAR))


class TradeOff(NamedTuple):
    """`points`: run or group, its run, both figures; `means` of each group; `best`: groups that no other beats in both.

    `kinds`: measured, modelled or fake, of each axis over all runs.
    """

    x: Figure
    y: Figure
    kinds: tuple[str, str]
    points: tuple[tuple[str, str, float, float], ...]
    means: dict[str, tuple[float, float]]
    best: tuple[str, ...]


def front(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Indices of the points that no other is at least as good as in both and better in one; less is better."""
    return tuple(
        i for i, (x, y) in enumerate(points) if not any(a <= x and b <= y and (a < x or b < y) for a, b in points)
    )


def trade_offs(groups: dict[str, list[Metrics]]) -> tuple[TradeOff, ...]:
    """Of every pair of figures that each of at least two groups has. A group's place is the mean over its runs."""
    found = []
    for x, y in PAIRS:
        points = [
            (name, m.run, a, b)
            for name, runs in groups.items()
            for m in runs
            if (a := x.of(m)) is not None and (b := y.of(m)) is not None
        ]
        names = list(dict.fromkeys(point[0] for point in points))
        if len(names) < 2 or len(names) < len(groups):
            continue
        means = {name: _mean([(a, b) for group, _, a, b in points if group == name]) for name in names}
        kinds = (_kind(groups, x.source), _kind(groups, y.source))
        best = tuple(names[i] for i in front([means[name] for name in names]))
        found.append(TradeOff(x, y, kinds, tuple(points), means, best))
    return tuple(found)


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(a for a, _ in points) / len(points), sum(b for _, b in points) / len(points)


def _kind(groups: dict[str, list[Metrics]], source: str) -> str:
    """All kinds of a source in these runs; a column that differs by node has its name in several of them."""
    kinds = {
        text.partition("(")[0]
        for runs in groups.values()
        for m in runs
        for name, text in m.sources.items()
        if name == source or name.startswith(f"{source} of ")
    }
    return " and ".join(sorted(kinds)) or "modelled"
