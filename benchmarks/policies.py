"""Selection policies in a closed loop with the twin over two orbits: wear and heat beside the mass given up.

Nodes are modelled (a watt above idle for every so many expert rows) and router scores are drawn, so this ranks policies
on one stressed bench and measures nothing; a campaign on boards does. All see the same rows. Ratios to `topk`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ground_controller.outlook import look_ahead
from ground_controller.physics.solar import solar_power_w
from ground_controller.policies.registry import SELECTION, selection_policy
from ground_controller.policies.view import Limits, NodeView, View
from ground_controller.preparation import platform_of
from ground_controller.twin import Twin
from hil_config.schema.platforms import PlatformChoice
from hil_config.wire.manifest import ModelCard, Routing
from hil_config.wire.plan import GatewaySlice, SelectionPlan
from models.serving.gate import select
from models.serving.layer_gate import compile_layer, row_fraction

LAYERS, EXPERTS, TOP_K, ROWS = 4, 16, 2, 64
TICK_S, ORBIT_S, DARK, ORBITS = 20.0, 5_739.0, 0.3723, 2
CALLS_S = 60.0
"""Rows x layers an orbit second; with `call_j` 3.6 W of experts on the bench under top-2."""
LIMITS = Limits(59.0, 70.0, 0.45, 0.3, 2.0, 0.05)


STRESSED = PlatformChoice(battery_wh=60.0, base_load_w=13.0)


@dataclass(frozen=True)
class Scene:
    """A bench of modelled nodes. `base_w`: idle and trunk, the first two are gateways. `phase`: place in the orbit."""

    platform: PlatformChoice = STRESSED
    base_w: tuple[float, ...] = (2.9, 2.8, 2.4, 2.4, 2.5, 2.4)
    phase: tuple[float, ...] = (0.0, 0.1, 0.35, 0.45, 0.7, 0.8)
    charge: tuple[float, ...] = (0.9, 0.8, 0.7, 0.62, 0.85, 0.75)
    call_j: float = 0.03
    seed: int = 0

    def lit(self, t: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Sunlight [N] at t, or [M, N] at M times."""
        turns = np.expand_dims(np.asarray(t) / ORBIT_S, -1) + np.array(self.phase)
        return np.asarray(turns % 1.0 > DARK, np.float64)


@dataclass
class Outcome:
    """Sums over nodes and time; `kept` is the mean mixing mass served."""

    wear: float
    over_k_s: float
    out_s: float
    kept: float


def _model() -> ModelCard:
    rng = np.random.default_rng(3)
    use = rng.dirichlet(np.full(EXPERTS, 4.0), size=LAYERS) * TOP_K
    table = tuple(tuple(float(x) for x in row) for row in use)
    return ModelCard("drawn", LAYERS, EXPERTS, 64, 64, 256, 2, 32, 128, 0, Routing(TOP_K, True), table, table)


MODEL = _model()


def _scores(seed: int, tick: int, layer: int) -> NDArray[np.float32]:
    logits = (
        np.random.default_rng((tick, layer, seed) if seed else (tick, layer)).standard_normal((ROWS, EXPERTS)) * 2.0
    )
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(scores / scores.sum(axis=1, keepdims=True), np.float32)


class Loop:
    """Modelled nodes and the policy that steers them."""

    def __init__(self, name: str, options: dict[str, object], scene: Scene) -> None:
        n = len(scene.base_w)
        self.scene = scene
        self.names = tuple(f"n{i}" for i in range(n))
        self.platform = platform_of(scene.platform)
        self.twin = Twin(self.platform, 1.0)
        self.state = self.twin.start([50.0] * n, list(scene.charge))
        self.policy = selection_policy(name, options)
        self.memory = self.policy.start(n)
        self.holders = tuple(tuple((e % n, (e + 1 + e // n) % n) for e in range(EXPERTS)) for _ in range(LAYERS))
        self.gateways: tuple[GatewaySlice, ...] = (
            GatewaySlice(0, 1, self.names[:2]),
            GatewaySlice(2, 3, self.names[1::-1]),
        )
        self.delay = np.full((n, n), 0.01) - 0.01 * np.eye(n)
        self.in_service = [True] * n
        self.calls = np.zeros(n)
        self.experts_per_row = float(TOP_K)
        p = self.platform
        self.full_w = float(solar_power_w(1.0, 1.0, p.array_area_m2, p.array_efficiency, p.array_cos_incidence))

    @property
    def power_w(self) -> NDArray[np.float64]:
        return np.array(self.scene.base_w) + self.calls * self.scene.call_j

    def limit(self) -> None:
        """Out of service beyond a soft limit, back after the hysteresis."""
        for i, (warm, charge) in enumerate(zip(self.state.temperature_c, self.state.charge, strict=True)):
            if warm > LIMITS.temperature_soft_c or charge < LIMITS.charge_soft:
                self.in_service[i] = False
            elif warm < LIMITS.temperature_soft_c - 2.0 and charge > LIMITS.charge_soft + 0.05:
                self.in_service[i] = True

    def view(self, t: float) -> View:
        lit, call_j = self.scene.lit(t), self.scene.call_j
        heat = call_j / self.platform.thermal_capacity_j_k
        nodes = tuple(
            NodeView(name, name, True, self.in_service[i], float(self.state.temperature_c[i]),
                     float(self.state.charge[i]), float(lit[i]), float(self.power_w[i]), 2.4, call_j, heat,
                     float(self.calls[i]), self.full_w * float(lit[i]))
            for i, name in enumerate(self.names)
        )  # fmt: skip
        ahead = None
        if getattr(self.policy, "looks_ahead", False):
            ahead = look_ahead(self.twin, self.state, self.power_w, 1.0, lambda after: self.scene.lit(t + after))
        return View(
            t,
            TICK_S,
            nodes,
            self.delay,
            self.holders,
            self.gateways,
            MODEL,
            LIMITS,
            self.experts_per_row,
            outlook=ahead,
        )

    def tick(self, tick: int) -> float:
        """One decision and the rows it is for; returns the mean mixing mass served."""
        self.limit()
        self.memory, s = self.policy.select(self.memory, self.view(tick * TICK_S))
        self.gateways = s.gateways or self.gateways
        plan = SelectionPlan(
            tick + 1, 1, tick * TICK_S, 60.0, "", "", s.scale, s.coverage, s.k_min, s.k_max, s.threshold, self.names,
            self.gateways, s.layers,
        )  # fmt: skip
        counts, kept = np.zeros(len(self.names)), []
        for layer in range(LAYERS):
            gate = compile_layer(plan, layer, np.ones(len(self.names), bool))
            picks = select(
                gate, _scores(self.scene.seed, tick, layer), MODEL.routing, row_fraction(tick, 0, ROWS, layer)
            )
            counts += np.bincount(picks.hosts[picks.hosts >= 0], minlength=len(self.names))
            kept.append(float(picks.kept.mean()))
        self.calls = counts * (CALLS_S / (ROWS * LAYERS))
        self.experts_per_row = float(counts.sum()) / (ROWS * LAYERS)
        self.state = self.twin.step(self.state, self.power_w, self.scene.lit(tick * TICK_S), TICK_S)
        return float(np.mean(kept))


def run_policy(name: str, scene: Scene | None = None, **options: object) -> Outcome:
    """Two orbits of one policy."""
    bench = Loop(name, options, scene or Scene())
    over_k_s = out_s = 0.0
    kept = []
    for tick in range(int(ORBITS * ORBIT_S / TICK_S)):
        kept.append(bench.tick(tick))
        over_k_s += float(np.maximum(bench.state.temperature_c - LIMITS.temperature_soft_c, 0.0).sum()) * TICK_S
        out_s += sum(not yes for yes in bench.in_service) * TICK_S
    return Outcome(float(bench.state.wear.sum()), over_k_s, out_s, float(np.mean(kept)))


def run() -> None:
    """Every selection policy with its default options."""
    base = run_policy("topk")
    print(f"{'policy':16s} wear/topk  over limit K s  out of service s  mass kept")
    for name in sorted(SELECTION):
        found = base if name == "topk" else run_policy(name)
        print(f"{name:16s} {found.wear / base.wear:9.3f} {found.over_k_s:15.0f} {found.out_s:17.0f} {found.kept:10.4f}")


if __name__ == "__main__":
    run()
