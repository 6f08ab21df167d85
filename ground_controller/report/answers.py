"""The answer of a run in numbers, each with its interval and how that was found.

What is resampled are the parts of a run that can be taken as independent: whole requests, blocks of time, evaluation
items. An interval of one run speaks of its machine, its minutes and its heat, and not of other runs of its settings.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.journal import Journal
from ground_controller.report.energy import NodeEnergy, NodePower, blocks_j, energy_of, node_power
from ground_controller.report.evaluation import EvaluationResult
from ground_controller.report.intervals import paired_interval
from ground_controller.telemetry.sources import by_provenance, combined, generated, quantities, stride, timed
from hil_config.errors import HilError

MOST_BLOCKS = 20
LEAST_BLOCKS = 5
"""Fewer parts than these give no interval."""


class Answer(msgspec.Struct, frozen=True):
    """`estimate` with the interval [low, high] at `level`, over so many `parts`; `how` says what they are, or why there
    is no interval. `kind`: measured, modelled or fake."""

    name: str
    kind: str
    unit: str
    estimate: float | None
    low: float | None
    high: float | None
    level: float
    parts: int
    how: str

    def text(self) -> str:
        """`12.3 [11.9, 12.8] ms`."""
        if self.estimate is None:
            return f"not known: {self.how}"
        if self.low is None or self.high is None:
            return f"{self.estimate:.4g} {self.unit} (no interval: {self.how})".replace("  ", " ")
        return f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}] {self.unit}".rstrip()


def answers(
    journal: Journal,
    tokens: dict[str, list[Any]],
    power: dict[str, NodePower],
    energy: dict[str, NodeEnergy],
    evaluated: EvaluationResult | None,
) -> tuple[Answer, ...]:
    """Time per output token, joules per token, and perplexity where the run evaluated.

    Args:
        tokens: the table of that name by column.
    """
    found = [_pace(journal, tokens), *_joules(journal, power, energy)]
    if evaluated is not None and evaluated.item_nats:
        found.append(_perplexity(journal, evaluated))
    return tuple(found)


def ratio_answer(name: str, kind: str, unit: str, a: list[float], b: list[float], how: str) -> Answer:
    """sum(a) / sum(b) with its interval over the parts."""
    if not a or sum(b) <= 0.0:
        return Answer(name, kind, unit, None, None, None, 0.95, len(a), "nothing was recorded")
    estimate = sum(a) / sum(b)
    if len(a) < LEAST_BLOCKS:
        short = f"{len(a)} parts ({how}); at least {LEAST_BLOCKS} are needed"
        return Answer(name, kind, unit, estimate, None, None, 0.95, len(a), short)
    try:
        interval = paired_interval(a, b, "ratio")
    except HilError as error:
        return Answer(name, kind, unit, estimate, None, None, 0.95, len(a), error.message)
    return Answer(name, kind, unit, interval.estimate, interval.low, interval.high, interval.level, interval.pairs, how)


def _pace(journal: Journal, tokens: dict[str, list[Any]]) -> Answer:
    took: defaultdict[int, float] = defaultdict(float)
    count: defaultdict[int, float] = defaultdict(float)
    for request, first, since_us in zip(tokens["request"], tokens["first"], tokens["since_us"], strict=True):
        if not first:
            took[request] += since_us / 1e3
            count[request] += 1.0
    return ratio_answer(
        "time per output token, mean", timed(journal, "").kind, "ms", list(took.values()), list(count.values()),
        "resampled by request, at the client",
    )  # fmt: skip


def _joules(journal: Journal, power: dict[str, NodePower], energy: dict[str, NodeEnergy]) -> list[Answer]:
    names = ("energy gross a token", "energy net a token")
    kind = combined(by_provenance(quantities(journal).get("power_w", {})).items()).kind if power else "modelled"
    void = [f"{node}: {one.note}" for node, one in energy.items() if one.gross_j is None]
    if not power or void:
        why = void[0] if void else "no node reported power"
        return [Answer(name, kind, "J", None, None, None, 0.95, 0, why) for name in names]
    arrived = _arrived(journal)
    edges, count = _blocks(arrived, *_covered(power))
    gross = np.sum([blocks_j(one, edges) for one in power.values()], axis=0)
    seconds = np.diff(edges) / 1e9
    tokens = (count * stride(journal)).astype(float).tolist()
    how = f"resampled by {len(seconds)} blocks of {seconds[0]:.3g} s"
    found = [ratio_answer(names[0], kind, "J", gross.tolist(), tokens, how)]
    unknown = [one.note for one in energy.values() if one.idle_w is None]
    if unknown:
        return [*found, Answer(names[1], kind, "J", None, None, None, 0.95, 0, unknown[0])]
    net = np.sum([blocks_j(one, edges, energy[node].idle_w or 0.0) for node, one in power.items()], axis=0)
    sources = " and ".join(sorted({one.idle_from for one in energy.values()}))
    return [
        *found,
        ratio_answer(names[1], kind, "J", net.tolist(), tokens, f"{how}; idle power from {sources}, taken as exact"),
    ]


def joules_a_token(journal: Journal, blocks: int) -> list[float | None]:
    """Gross joules a token in each of so many equal blocks of the run; None for a block without a token.

    Empty where a node's energy is void, no node reported power, or the run was interrupted: its blocks are no shares of
    the orbit.
    """
    power = node_power(journal)
    if (
        not power
        or any(one.pauses for one in power.values())
        or any(energy_of(one).gross_j is None for one in power.values())
    ):
        return []
    edges = np.linspace(*_covered(power), blocks + 1).astype(np.int64)
    count = np.histogram(_arrived(journal), edges)[0] * stride(journal)
    joules = np.sum([blocks_j(one, edges) for one in power.values()], axis=0)
    return [float(j / n) if n else None for j, n in zip(joules, count, strict=True)]


def _covered(power: dict[str, NodePower]) -> tuple[int, int]:
    """Begin and end (ns, the ground's clock) of what any node's samples cover: one that is lost has no energy later."""
    begins = (int(one.clock_ns[0]) - one.offset_ns for one in power.values())
    ends = (int(one.clock_ns[-1]) - one.offset_ns for one in power.values())
    return min(begins), max(ends)


def _arrived(journal: Journal) -> NDArray[np.int64]:
    """When each token came to the client, on the ground's clock."""
    return np.array([entry.host_ns for entry in journal.entries("client_token")], np.int64)


def _blocks(arrived: NDArray[np.int64], begin_ns: int, end_ns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As many equal blocks as have a token in each: edges [blocks + 1], tokens [blocks]."""
    for blocks in range(MOST_BLOCKS, 0, -1):
        edges = np.linspace(begin_ns, end_ns, blocks + 1).astype(np.int64)
        count = np.histogram(arrived, edges)[0]
        if count.min() > 0:
            break
    return edges, count


def _perplexity(journal: Journal, evaluated: EvaluationResult) -> Answer:
    found = ratio_answer(
        "perplexity", generated(journal, "").kind, "", [nats for nats, _ in evaluated.item_nats],
        [float(count) for _, count in evaluated.item_nats],
        "resampled by text of the evaluation set, all domains together",
    )  # fmt: skip

    def power(value: float | None) -> float | None:
        return None if value is None else math.exp(value)

    return msgspec.structs.replace(found, estimate=power(found.estimate), low=power(found.low), high=power(found.high))
