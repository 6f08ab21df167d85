"""Which policy wins on what: paired by seed, with intervals, and in plain words where nothing can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ground_controller.report.intervals import Interval, paired_interval
from ground_controller.studies.policy_cells import Cell

Float = NDArray[np.float64]

EQUAL_NATS = 0.01
"""Policies count as equal in perplexity where the whole interval of their difference stays within 1 %: one that holds 0
and more says that too few seeds were asked."""
LEAST_SERVED = 0.999


@dataclass(frozen=True)
class Axis:
    """A column of `Cell` in which less is better. `source`: where its values come from."""

    key: str
    title: str
    source: str = "modelled"


AXES = (
    Axis("active_j_token", "energy above idle, J/token"),
    Axis("wear_year", "wear, full discharges a year"),
    Axis("wear_worst_year", "wear of the most worn satellite, full discharges a year"),
    Axis("over_k_s", "K s over the limit, satellite and orbit"),
    Axis("nats", "nats a token", "measured: real model, modelled plans"),
    Axis("bytes_token", "bytes/token"),
    Axis("latency_ms", "ms a token"),
)


@dataclass(frozen=True)
class Win:
    """On one axis: the policy with the lowest mean, and those that cannot be told from it."""

    axis: Axis
    best: str
    tied: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Rival:
    """One policy against another: differences a - b on three axes."""

    policy: str
    nats: Interval
    wear: Interval
    over: Interval
    equal: bool


class Found:
    """Cells by policy; the first entry of `cells` of a policy is seed 0 and so on."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells: dict[str, list[Cell]] = {}
        for cell in cells:
            self._cells.setdefault(cell.policy, []).append(cell)

    @property
    def policies(self) -> tuple[str, ...]:
        return tuple(self._cells)

    def values(self, policy: str, key: str) -> Float:
        """[seeds]"""
        return np.array([getattr(cell, key) for cell in self._cells[policy]], np.float64)

    def mean(self, policy: str, key: str) -> float:
        """Over seeds; not a number where one seed has none."""
        return float(self.values(policy, key).mean())

    def serves_all(self, policy: str) -> bool:
        """Hardly a token without a gateway."""
        return self.mean(policy, "unserved") <= 1.0 - LEAST_SERVED

    def added(self, policy: str, idle: str) -> Float:
        """[seeds]: wear a year beyond that of the bench without work."""
        return self.values(policy, "wear_year") - self.values(idle, "wear_year")


def wins(found: Found, policies: Sequence[str]) -> list[Win]:
    """For every axis, among the policies that serve all tokens."""
    answer = []
    serving = [p for p in policies if found.serves_all(p)]
    for axis in AXES:
        known = [p for p in serving if np.isfinite(found.values(p, axis.key)).all()]
        if not known:
            continue
        best = min(known, key=lambda p: found.mean(p, axis.key))
        tied = []
        for other in known:
            if other != best and not _gap(found, other, best, axis.key).distinguishable:
                tied.append(other)
        answer.append(Win(axis, best, tuple(tied), tuple(p for p in policies if p not in known)))
    return answer


def rivals(found: Found, policy: str, others: Sequence[str]) -> list[Rival]:
    """`policy` minus each of the others that serve all tokens; those of equal perplexity first. Where no plan of a seed
    could be sampled, nothing is known of nats."""
    answer = []
    for other in others:
        read = all(np.isfinite(found.values(p, "nats")).all() for p in (policy, other))
        if other == policy or not found.serves_all(other) or not read:
            continue
        nats = _gap(found, policy, other, "nats")
        equal = max(abs(nats.low), abs(nats.high)) <= EQUAL_NATS
        gaps = (nats, _gap(found, policy, other, "wear_year"), _gap(found, policy, other, "over_k_s"))
        answer.append(Rival(other, *gaps, equal))
    return sorted(answer, key=lambda rival: (not rival.equal, rival.policy))


def _gap(found: Found, a: str, b: str, key: str) -> Interval:
    return paired_interval(found.values(a, key), found.values(b, key))
