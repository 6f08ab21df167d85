"""Every policy under every seed of a scene: what it came to, one cell each, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import msgspec
import numpy as np

from ground_controller.orphans import end_with_parent
from ground_controller.physics.ageing_cycles import count_cycles, woehler_wear, xu_wear
from ground_controller.studies.offline_bound import Bound, lower_bound
from ground_controller.studies.policy_loop import Course, PolicyLoop
from ground_controller.studies.policy_scene import Scene, Stage, stage
from hil_config.errors import UsageError
from hil_config.wire.plan import SelectionPlan
from models.heldout import read_heldout, read_tokenizer
from models.locate import reference_checkpoint
from models.planned import PlannedModel, choice_key

BESIDE = ("horizon coverage=0.8",)
"""Put beside the policies with their default options: ours with the coverage of `top_p`."""
YEAR_S = 365.25 * 86_400.0
IDLE = "no work"
"""Name of the bench that serves nothing: its wear and energy are those of the satellites alone."""
Told = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """Args: `orbits`, the first of which is not measured; `seeds` paired over policies; `plans` sampled for perplexity
    and `tokens` of held-out text a domain for each; `tick_s` orbit seconds between decisions."""

    orbits: int = 2
    seeds: int = 5
    plans: int = 6
    tokens: int = 600
    tick_s: float = 20.0


class Cell(msgspec.Struct, frozen=True):
    """A policy under a seed over the measured orbits.

    `wear_year` in full discharges (closed form), `wear_rainflow_year`, `wear_xu_year` in shares of life: of a satellite
    in a year, if every orbit were like the measured ones; `wear_worst_year` of the most worn satellite, closed form;
    `wear_total`: closed form, all orbits, mean over satellites. Energies are those of all boards and transmitters,
    `active_j_token` without idle power. `over_k_s`, `over_s`: above the soft limit, a satellite and orbit.
    `charge_drift`: mean change of charge an orbit. `nats` a token are measured with the model.
    """

    policy: str
    seed: int
    active_j_token: float
    gross_j_token: float
    over_k_s: float
    over_s: float
    peak_c: float
    mean_c: float
    wear_year: float
    wear_worst_year: float
    wear_rainflow_year: float
    wear_xu_year: float
    wear_total: float
    charge_least: float
    charge_drift: float
    bytes_token: float
    latency_ms: float
    kept: float
    experts: float
    unserved: float
    busiest: float
    nats: float = float("nan")


class Sampled(msgspec.Struct, frozen=True):
    """A cell without its nats, and the different plans sampled of it with how often each was met."""

    cell: Cell
    plans: tuple[tuple[str, SelectionPlan, int], ...]


def named(text: str) -> tuple[str, dict[str, object]]:
    """Name and options of a policy written as `NAME`, or `NAME key=number key=number`; UsageError if it is neither."""
    hint = "write 'NAME key=number', like 'top_p p=0.9'"
    name, *parts = text.split() or [""]
    if not name:
        raise UsageError(f"policy {text!r}: it has no name", hint)
    options: dict[str, object] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if key in options:
            raise UsageError(f"policy {text!r}: {key} is there twice", hint)
        try:
            options[key] = int(value) if value.lstrip("-").isdigit() else float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f"policy {text!r}: {part!r} is no option", hint)
    return name, options


def run_cell(scene: Scene, effort: Effort, job: tuple[str, int]) -> Sampled:
    """One policy (or `IDLE`) under one seed."""
    policy, seed = job
    idle = policy == IDLE
    found = stage(scene, seed, effort.orbits, effort.tick_s)
    each = round(scene.orbit_s / effort.tick_s)
    ticks = each * effort.orbits
    where = set(np.linspace(each, ticks, effort.plans, endpoint=False).astype(int).tolist())
    loop = PolicyLoop(found, *(("topk", {}) if idle else named(policy)), effort.tick_s, 0.0 if idle else 1.0)
    course = loop.run(ticks, set() if idle else where)
    kept: dict[str, tuple[SelectionPlan, int]] = {}
    for plan, tick in zip(course.plans, course.sampled, strict=True):
        if course.unserved[tick] == 0.0:
            key = choice_key(plan)
            kept[key] = (plan, kept.get(key, (plan, 0))[1] + 1)
    plans = tuple((key, _unexplained(plan), times) for key, (plan, times) in kept.items())
    return Sampled(_cell(policy, found, course, each, effort), plans)


def _unexplained(plan: SelectionPlan) -> SelectionPlan:
    """Without the text, which is only for people."""
    return msgspec.structs.replace(plan, reason="")


def _cell(policy: str, found: Stage, course: Course, each: int, effort: Effort) -> Cell:
    span = slice(each, None)
    ticks = len(course.wear) - each
    duration_s = ticks * effort.tick_s
    orbits, count = ticks / each, course.wear.shape[1]
    year = YEAR_S / duration_s
    served = 1.0 - course.unserved[span]
    tokens = float(served.sum()) * effort.tick_s * found.scene.tokens_s
    radio_w = 8.0 * course.sent_bytes * found.setting.twin.platform.transmit_j_per_bit

    def per_token(total: float) -> float:
        return total / tokens if tokens and policy != IDLE else float("nan")

    def served_mean(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        weight = served if policy != IDLE else np.zeros_like(served)
        return float(np.nansum(values[span] * weight) / weight.sum()) if weight.sum() else float("nan")

    worn = course.wear[-1] - course.wear[each - 1]
    over = np.maximum(course.temperature_c[span] - found.setting.limits.temperature_soft_c, 0.0)
    rainflow, xu = [], []
    for n in range(count):
        charge, warm = course.charge[span, n], course.temperature_c[span, n]
        cycles = count_cycles(charge, warm)
        rainflow.append(woehler_wear(cycles))
        xu.append(xu_wear(cycles, duration_s, float(charge.mean()), float(warm.mean())))
    return Cell(
        policy=policy, seed=found.seed,
        active_j_token=per_token(float((course.experts_w + radio_w)[span].sum()) * effort.tick_s),
        gross_j_token=per_token(float((course.power_w + radio_w)[span].sum()) * effort.tick_s),
        over_k_s=float(over.sum()) * effort.tick_s / count / orbits,
        over_s=float((over > 0.0).sum()) * effort.tick_s / count / orbits,
        peak_c=float(course.temperature_c[span].max()), mean_c=float(course.temperature_c[span].mean()),
        wear_year=float(worn.mean()) * year, wear_worst_year=float(worn.max()) * year,
        wear_rainflow_year=float(np.mean(rainflow)) * year, wear_xu_year=float(np.mean(xu)) * year,
        wear_total=float(course.wear[-1].mean()),
        charge_least=float(course.charge[span].min()),
        charge_drift=float((course.charge[-1] - course.charge[each - 1]).mean()) / orbits,
        bytes_token=per_token(float(course.sent_bytes[span].sum()) * effort.tick_s),
        latency_ms=1e3 * served_mean(course.latency_s), kept=served_mean(course.kept),
        experts=served_mean(course.experts), unserved=float(course.unserved[span].mean()),
        busiest=float(course.busiest[span].max()),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _texts(tokens: int, context: int, end_of_text: int) -> dict[str, list[list[int]]]:
    """Held-out texts by domain, the first ones until so many tokens are together."""
    checkpoint = reference_checkpoint()
    tokenizer, answer = read_tokenizer(checkpoint), dict[str, list[list[int]]]()
    for domain, texts in read_heldout(checkpoint).items():
        taken, count = [], 0
        for text in texts:
            ids = [end_of_text, *tokenizer.encode(text).ids][: min(context, tokens - count + 1)]
            if len(ids) < 2:
                break
            taken.append(ids)
            count += len(ids) - 1
        answer[domain] = taken
    return answer


@lru_cache(maxsize=1)
def _model(shards: Path) -> PlannedModel:
    return PlannedModel(shards)


def measure_nats(shards: Path, tokens: int, plan: SelectionPlan) -> float:
    """Nats a token of the quantised model under a plan, the mean over domains."""
    model = _model(shards)
    model.under(plan)
    domains = []
    for texts in _texts(tokens, model.card.context, model.card.end_of_text).values():
        count = sum(len(ids) - 1 for ids in texts)
        domains.append(sum(model.nll(ids) * (len(ids) - 1) for ids in texts) / count)
    return float(np.mean(domains))


def bound_of(scene: Scene, effort: Effort, heat: bool) -> Bound:
    """The offline bound of seed 0."""
    found = stage(scene, 0, effort.orbits, effort.tick_s)
    ticks = round(scene.orbit_s / effort.tick_s) * effort.orbits
    idle = PolicyLoop(found, "topk", {}, effort.tick_s, 0.0).run(ticks, set())
    return lower_bound(found, idle, effort.tick_s, heat)


def run_all(
    scene: Scene, policies: Sequence[str], effort: Effort, jobs: int, bound: bool, told: Told = lambda text: None
) -> tuple[list[Cell], list[Bound]]:
    """Cells of all policies and of `IDLE` under all seeds, in that order; `jobs` processes. With `bound` also the
    offline bounds without and with the limit on heat."""
    shards = stage(scene, 0, effort.orbits, effort.tick_s).prepared.shards  # built once, before the processes start
    wanted = [(policy, seed) for seed in range(effort.seeds) for policy in (IDLE, *policies)]
    with ProcessPoolExecutor(jobs, initializer=end_with_parent) as pool:
        bounds = [pool.submit(bound_of, scene, effort, heat) for heat in (False, True)] if bound else []
        sampled = []
        for job, one in zip(wanted, pool.map(partial(run_cell, scene, effort), wanted), strict=True):
            sampled.append(one)
            told(f"seed {job[1]}: {job[0]}")
        plans = {key: plan for one in sampled for key, plan, _ in one.plans}
        told(f"perplexity under {len(plans)} different plans")
        nats = dict(zip(plans, pool.map(partial(measure_nats, shards, effort.tokens), plans.values()), strict=True))
        found = [one.result() for one in bounds]
    cells = [msgspec.structs.replace(one.cell, nats=_mean_nats(one, nats)) for one in sampled]
    return sorted(cells, key=lambda cell: ((IDLE, *policies).index(cell.policy), cell.seed)), found


def _mean_nats(one: Sampled, nats: dict[str, float]) -> float:
    times = sum(count for _, _, count in one.plans)
    return sum(nats[key] * count for key, _, count in one.plans) / times if times else float("nan")
