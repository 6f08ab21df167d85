"""`horizon` beside other selection policies in several scenes and seeds, with the gap to the best found offline.

The others are `topk` and those that keep 0.98 of the mass or more in `benchmarks policies`. Modelled nodes and drawn
scores, as there. A seed draws places in the orbit, charges, the work of the nodes and the scores; all policies see the
same. Wear is given as what the experts add to it: 0 is a bench without experts, 1 is `topk` with the same seed.
`offline` knows the whole two orbits and the load, keeps all mass and meets no row's chance: mirror descent over the two
orbits, run through the same twin. It is the best of three found, not proved; `none` where none kept all in service.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray

from benchmarks.policies import CALLS_S, LIMITS, MODEL, ORBIT_S, ORBITS, TICK_S, TOP_K, Loop, Outcome, Scene, run_policy
from ground_controller.outlook import look_ahead
from ground_controller.policies.foresight import Problem, descend
from hil_config.schema.platforms import PlatformChoice

SCENES: dict[str, tuple[PlatformChoice, float]] = {
    "tight": (PlatformChoice(battery_wh=60.0, base_load_w=13.0), 0.03),
    "cool": (PlatformChoice(battery_wh=60.0, base_load_w=13.0, sink_c=-8.0), 0.03),
    "warm": (PlatformChoice(battery_wh=60.0, base_load_w=13.0, sink_c=6.0), 0.03),
    "small": (PlatformChoice(battery_wh=30.0, base_load_w=6.0, sink_c=-8.0, array_area_m2=0.07), 0.05),
}
"""Heat just fits; heat leaves room; heat cannot fit; a small bus whose battery the experts can empty."""
SEEDS = (1, 2)
BESIDE = ("horizon", "lyapunov", "sift", "thermal_balance", "topk")
KEPT = 0.99
"""Policies that keep less mass are listed apart: they save what they do not serve."""
OFFLINE_S = 60.0
OFFLINE_ROUNDS = 1_000


def scene_of(name: str, seed: int, nodes: int = 6) -> Scene:
    """One draw."""
    rng = np.random.default_rng(seed)
    platform, call_j = SCENES[name]
    base = (2.9, 2.8, *(2.4 + 0.1 * float(rng.integers(0, 2)) for _ in range(nodes - 2)))
    phase = tuple(float(x) for x in rng.random(nodes))
    return Scene(platform, base, phase, tuple(float(x) for x in rng.uniform(0.65, 0.95, nodes)), call_j, seed)


def _through_twin(scene: Scene, power_w: NDArray[np.float64], step_s: float) -> Outcome:
    loop = Loop("topk", {}, scene)
    over = out = 0.0
    for h, power in enumerate(power_w):
        parts = round(step_s / TICK_S)
        for part in range(parts):
            loop.state = loop.twin.step(loop.state, power, scene.lit(h * step_s + part * TICK_S), TICK_S)
            over += float(np.maximum(loop.state.temperature_c - LIMITS.temperature_soft_c, 0.0).sum()) * TICK_S
            loop.limit()
            out += sum(not yes for yes in loop.in_service) * TICK_S
    return Outcome(float(loop.state.wear.sum()), over, out, 1.0)


def without_experts(scene: Scene) -> float:
    """Wear of the bench alone."""
    steps = int(ORBITS * ORBIT_S / TICK_S)
    return _through_twin(scene, np.tile(scene.base_w, (steps, 1)), TICK_S).wear


def offline(scene: Scene) -> Outcome | None:
    """The least wear found with everything known and all rows served; None where none was found that
    keeps every node in service."""
    loop = Loop("topk", {}, scene)
    steps = int(ORBITS * ORBIT_S / OFFLINE_S)
    ahead = look_ahead(loop.twin, loop.state, np.array(scene.base_w), 1.0, scene.lit, (OFFLINE_S,) * steps)
    groups: dict[tuple[int, ...], float] = {}
    for held, share in zip([key for layer in loop.holders for key in layer], np.ravel(MODEL.activation), strict=True):
        groups[held] = groups.get(held, 0.0) + float(share)
    total = sum(groups.values())
    watts = np.array([CALLS_S * TOP_K * share / total * scene.call_j for share in groups.values()])
    hosts = np.array(list(groups))
    best = None
    for wear, heat in ((60.0, 30.0), (30.0, 20.0), (15.0, 15.0)):
        problem = Problem(
            period_s=np.array(ahead.period_s), harvest_w=np.array(ahead.harvest_w), base_c=np.array(ahead.base_c),
            warming_k_w=np.array(ahead.warming_k_w), power_w=np.array(scene.base_w), charge=np.array(scene.charge),
            hosts=hosts, host=np.ones(hosts.shape, bool), group_w=np.repeat(watts[:, None], hosts.shape[1], axis=1),
            relative_j=np.ones(len(scene.base_w)), base_load_w=ahead.base_load_w, battery_j=ahead.battery_j,
            charge_efficiency=ahead.charge_efficiency, discharge_efficiency=ahead.discharge_efficiency,
            target_c=LIMITS.temperature_soft_c - 0.4, band_k=2.5, least_charge=LIMITS.charge_soft + 0.01,
            band_charge=0.02, heat=heat, low=heat, wear=wear, price_per_k=0.0, price_cap=1.0, give=0.0,
        )  # fmt: skip
        plan = descend(problem, np.zeros_like(problem.harvest_w), OFFLINE_ROUNDS)
        found = _through_twin(scene, plan.power_w, OFFLINE_S)
        if found.out_s == 0.0 and (best is None or found.wear < best.wear):
            best = found
    return best


def compare(name: str, seeds: tuple[int, ...] = SEEDS) -> None:
    """One scene, paired by seed."""
    found: dict[str, list[tuple[float, Outcome]]] = {policy: [] for policy in BESIDE}
    gaps = []
    for seed in seeds:
        scene = scene_of(name, seed)
        floor = without_experts(scene)
        outcomes = {policy: run_policy(policy, scene) for policy in BESIDE}
        added = outcomes["topk"].wear - floor
        for policy, outcome in outcomes.items():
            found[policy].append(((outcome.wear - floor) / added, outcome))
        best = offline(scene)
        gaps.append("none" if best is None else f"{(best.wear - floor) / added:.3f}")
    print(f"\nscene {name}, seeds {seeds}: wear that experts add, over topk's")
    for policy, rows in sorted(found.items(), key=lambda item: (np.mean([o.kept for _, o in item[1]]) < KEPT, item[0])):
        kept = float(np.mean([o.kept for _, o in rows]))
        wear = " ".join(f"{ratio:6.3f}" for ratio, _ in rows)
        over, out = (sum(getattr(o, key) for _, o in rows) for key in ("over_k_s", "out_s"))
        aside = "" if kept >= KEPT else f"  (keeps less than {KEPT})"
        print(f"{policy:16s} {wear}   over limit {over:6.0f} K s  out of service {out:6.0f} s  mass {kept:.4f}{aside}")
    print(
        f"{'offline':16s} {' '.join(f'{gap:>6s}' for gap in gaps)}   all mass kept, nothing out of service", flush=True
    )


def decision_ms(nodes: int = 16, ticks: int = 60) -> tuple[float, float]:
    """Median time of the outlook and of the decision."""
    loop = Loop("horizon", {}, scene_of("tight", 1, nodes))
    ahead, decide = [], []
    for tick in range(ticks):
        loop.tick(tick)
        start = time.perf_counter()
        view = loop.view(tick * TICK_S)
        middle = time.perf_counter()
        loop.policy.select(loop.memory, view)
        decide.append(time.perf_counter() - middle)
        ahead.append(middle - start)
    return 1e3 * float(np.median(ahead)), 1e3 * float(np.median(decide))


def run() -> None:
    """Every scene, then the time of a decision."""
    for name in SCENES:
        compare(name)
    ahead, decide = decision_ms()
    print(f"\n16 nodes: view with outlook {ahead:.1f} ms, decision {decide:.1f} ms (medians)")


if __name__ == "__main__":
    compare(sys.argv[1]) if len(sys.argv) > 1 else run()
