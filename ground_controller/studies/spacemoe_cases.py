"""The SpaceMoE placement study's cases: rules, knobs one at a time, and the seconds a token takes under each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec
import numpy as np

from ground_controller.orphans import end_with_parent
from ground_controller.policies.registry import placement_policy
from ground_controller.policies.view import PlacementProblem
from ground_controller.studies.constellation import Sky, expected_s
from ground_controller.studies.token_time import Sites, Work, sites, token_times
from hil_config.errors import UsageError


@dataclass(frozen=True)
class Rule:
    """A placement rule of the paper and the policy that is it here. `drawn`: depends on a seed."""

    label: str
    policy: str
    options: Mapping[str, object]
    drawn: bool


RULES = (
    Rule("RandPlace", "random", {}, True),
    Rule("RandIntra", "random_in_ring", {}, True),
    Rule("RandIntra-CG", "random_in_ring_central", {}, True),
    Rule("SpaceMoE", "rank_match", {"in_ring": True}, False),
)
PUBLISHED = {
    "RandPlace": (5.28, 5.30),
    "RandIntra": (4.13, 4.16),
    "RandIntra-CG": (3.34, 3.37),
    "SpaceMoE": (1.02, 1.07),
}
"""Seconds a token, range over eight data sets (arXiv 2605.00515, from two notes on it that agree)."""


@dataclass(frozen=True)
class Case:
    """One setting of all knobs. `knob`: which one was turned, `value`: to what."""

    knob: str
    value: str
    sky: Sky
    work: Work


class Found(msgspec.Struct, frozen=True):
    """Mean seconds a token of each rule, one value a draw; mean by layer; share of tokens that met no path."""

    knob: str
    value: str
    token_s: dict[str, list[float]]
    layer_s: dict[str, list[float]]
    lost: dict[str, float]
    compute_s: float

    def mean(self, rule: str) -> float:
        return float(np.mean(self.token_s[rule]))

    def ratio(self, rule: str) -> float:
        """How many times as long as SpaceMoE."""
        return self.mean(rule) / self.mean("SpaceMoE")

    @property
    def ordered(self) -> bool:
        """The order is the published one."""
        means = [self.mean(rule.label) for rule in RULES]
        return all(slower > faster for slower, faster in itertools.pairwise(means))


@dataclass(frozen=True)
class Effort:
    """How much is drawn. `planning`: snapshots that the planner's expectation is taken over."""

    draws: int = 10
    tokens: int = 64
    planning: int = 40


def measure(case: Case, effort: Effort) -> Found:
    """Every rule in one case."""
    sky, work = case.sky, case.work
    names = tuple(f"P{p:03d}S{s:03d}" for p in range(sky.planes) for s in range(sky.per_plane))
    if sky.count < work.layers * (work.experts + 1):
        raise UsageError(
            f"{sky.count} satellites for {work.layers} layers of a gateway and {work.experts} experts, one role each",
            "take fewer layers or experts, or more planes",
        )
    problem = PlacementProblem(
        nodes=names, expected_delay_s=expected_s(sky, effort.planning), slots=(1,) * sky.count, replicas=0,
        trunk_slices=work.layers, model=work.card(), seed=0,
        ring=tuple(float(n % sky.per_plane) for n in range(sky.count)), dedicated_gateways=True,
    )  # fmt: skip
    placed: list[tuple[str, Sites]] = []
    for rule in RULES:
        policy = placement_policy(rule.policy, rule.options)
        for draw in range(effort.draws if rule.drawn else 1):
            placed.append((rule.label, sites(policy.place(replace(problem, seed=draw)), names)))
    times = token_times(sky, work, [one for _, one in placed], effort.tokens)
    by_rule = {
        rule.label: [t for (label, _), t in zip(placed, times, strict=True) if label == rule.label] for rule in RULES
    }
    return Found(
        case.knob, case.value,
        {label: [float(t.token_s.mean()) for t in found] for label, found in by_rule.items()},
        {label: np.mean([t.layer_s for t in found], axis=0).tolist() for label, found in by_rule.items()},
        {label: float(np.mean([t.lost for t in found])) for label, found in by_rule.items()},
        work.layers * (work.gateway_s + work.expert_s),
    )  # fmt: skip


def cases(sky: Sky, work: Work) -> list[Case]:
    """The base case turned at one knob at a time, then the two combinations that come near the published table."""
    degrees = float(np.radians(0.12))
    open_360 = {"spread": "delta", "seam": False}
    skies: list[tuple[str, str, dict[str, Any]]] = [
        ("planes and seam", "180 degrees, seam not linked", {"seam": False}),
        ("planes and seam", "360 degrees, not linked", open_360),
        ("planes and seam", "360 degrees, linked", {"spread": "delta", "seam": True}),
        *(("phasing F", f"{f}", {"phasing": float(f)}) for f in (8, 13)),
        *(("phasing F, 360 degrees", f"{f}", {**open_360, "phasing": float(f)}) for f in (8, 13)),
        *(("tracking limit", text, {"turn_rad_s": rad}) for text, rad in (
            ("0.12 deg/s", degrees), ("0.24 deg/s", 2 * degrees), ("1 deg/s", float(np.radians(1.0))))),
        *(("altitude_km", f"{h:g}", {"altitude_km": float(h)}) for h in (800, 1_200, 1_600)),
        *(("planes", f"{p}", {"planes": p}) for p in (17, 25, 41, 49)),
        *(("link survival", f"{p:g}", {"survival": p}) for p in (0.8, 0.9, 1.0)),
    ]  # fmt: skip
    works: list[tuple[str, str, dict[str, Any]]] = [
        *(("skew of use", f"{s:g}", {"skew": s}) for s in (0.0, 0.5, 2.0)),
        *(("experts", f"{e}", {"experts": e}) for e in (4, 16)),
        *(("layers", f"{n}", {"layers": n}) for n in (8, 16)),
        *(("top-k", f"{k}", {"top_k": k}) for k in (1, 4)),
        *(("GFLOPS", f"{g:g}", {"gflops": g}) for g in (3.7, 20.0)),
    ]
    both: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("360 degrees, F 13, skew 2", {**open_360, "phasing": 13.0}, {"skew": 2.0}),
        ("360 degrees, 0.12 deg/s, F 8, skew 2", {**open_360, "phasing": 8.0, "turn_rad_s": degrees}, {"skew": 2.0}),
    ]
    return [
        *(Case(knob, value, replace(sky, **change), work) for knob, value, change in skies),
        *(Case(knob, value, sky, replace(work, **change)) for knob, value, change in works),
        *(Case("together", value, replace(sky, **s), replace(work, **w)) for value, s, w in both),
    ]


def measure_all(
    wanted: list[Case], effort: Effort, jobs: int, told: Callable[[Case], None] = lambda case: None
) -> list[Found]:
    """Every case, in the order given, `jobs` at a time in processes of their own."""
    if jobs <= 1:
        answer = []
        for case in wanted:
            answer.append(measure(case, effort))
            told(case)
        return answer
    with ProcessPoolExecutor(jobs, initializer=end_with_parent) as pool:
        waiting = [pool.submit(measure, case, effort) for case in wanted]
        answer = []
        for case, one in zip(wanted, waiting, strict=True):
            answer.append(one.result())
            told(case)
    return answer


def base_case(seed: int = 0) -> Case:
    """First principles: planes over 180 degrees (what a polar shell has), the seam linked, 0.12 rad/s, Zipf 1."""
    return Case("base", "180 degrees, seam linked", Sky(seam=True, seed=seed), Work(seed=seed))


def settings(case: Case) -> dict[str, Any]:
    """All knobs, for the record."""
    return {"sky": asdict(case.sky), "work": asdict(case.work)}
