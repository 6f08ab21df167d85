"""Heat ramp: as the twin's sink warms, precision and expert count fall and temperature holds; what that costs in nats.

Modelled nodes in a closed loop with the twin; calls cost what their precision's bytes say, nats are those calibrated on
text for the reference model (of coarser experts) and the mass given up (of fewer). Nothing here is measured on a board.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ground_controller.further import with_precisions
from ground_controller.further_setup import variants
from ground_controller.policies.registry import precision_policy, selection_policy
from ground_controller.policies.resources import Resources
from ground_controller.policies.view import Limits, NodeView, View
from ground_controller.preparation import cache_folder, platform_of
from ground_controller.twin import Twin
from hil_config.schema.platforms import PlatformChoice
from hil_config.wire.importance import read_importance
from hil_config.wire.manifest import Precision
from hil_config.wire.plan import GatewaySlice, SelectionPlan
from models.build import build_shards
from models.locate import reference_checkpoint
from models.serving.gate import compile_layer, row_fraction, select

NAMES = ("a", "b", "c", "d")
TICK_S, TICKS, ROWS = 5.0, 720, 64
LIMITS = Limits(59.0, 70.0, 0.3, 0.2, 2.0, 0.05)
IDLE_W, CALLS_S, CALL_J = 1.8, 30.0, 0.025
"""Rows a layer and second, all nodes; with top-2 of int8 4 x 2 x 30 x 0.025 / 4 = 1.5 W a node."""
SINK_C = (0.0, 14.0)
"""The sink warms evenly over the first half of the hour, then stays."""


@dataclass(frozen=True)
class Point:
    """Means over nodes at one time; `nats` of coarser experts a token, `mass` served."""

    time_s: float
    sink_c: float
    temperature_c: float
    coarse: float
    experts: float
    nats: float
    mass: float


def ramp(precision: str, selection: str, every: int = 60) -> list[Point]:
    """One hour under a precision and a selection policy; the same rows for all."""
    folder = cache_folder() / "models" / "checkpoint-int8-int4"
    manifest = build_shards(reference_checkpoint(), folder, ("int8", "int4"))
    card, known = manifest.model, variants(manifest, ("int8", "int4"), "int8", read_importance(folder, manifest))
    energy, nats = {v.precision: v.energy for v in known}, {v.precision: v.nats for v in known}
    holders = tuple(tuple((e % 4, (e + 1) % 4) for e in range(card.experts)) for _ in range(card.layers))
    gateways = (GatewaySlice(0, card.layers - 1, NAMES),)
    delay = np.full((4, 4), 0.01)
    np.fill_diagonal(delay, 0.0)
    chooser, selector = precision_policy(precision), selection_policy(selection)
    states = [chooser.start(4), selector.start(4)]
    rng = np.random.default_rng(1)
    base = platform_of(PlatformChoice())
    state = Twin(base, 1.0).start([45.0] * 4, [0.9] * 4)
    watts, per_row, points = np.full(4, IDLE_W), float(card.routing.top_k), list[Point]()
    for tick in range(TICKS):
        sink = SINK_C[0] + (SINK_C[1] - SINK_C[0]) * min(1.0, 2.0 * tick / TICKS)
        state = Twin(replace(base, sink_c=sink), 1.0).step(state, watts, np.ones(4), TICK_S)
        nodes = tuple(
            NodeView(n, n, True, True, float(state.temperature_c[i]), 0.9, 1.0, float(watts[i]), IDLE_W, CALL_J, 1e-4,
                     100.0, 20.0) for i, n in enumerate(NAMES)
        )  # fmt: skip
        view = View(tick * TICK_S, TICK_S, nodes, delay, holders, gateways, card, LIMITS, per_row)
        resources = Resources(known, np.full((4, 4), 1e8), (0.0,) * 4, 0.0, (), "fp16", (0,) * 4, 0.0)
        states[0], chosen = chooser.choose(states[0], view, resources)
        states[1], wanted = selector.select(states[1], view)
        layers = with_precisions(wanted.layers, view, chosen.of)
        plan = SelectionPlan(
            1, 1, 0.0, 1e9, "", "", wanted.scale, wanted.coverage, wanted.k_min, wanted.k_max, wanted.threshold, NAMES,
            gateways, layers,
        )  # fmt: skip
        spent, coarse, used, cost, mass = np.zeros(4), 0, 0, 0.0, []
        for number, layer in enumerate(layers):
            alpha = np.array(card.activation[number]) * 2.0 + 0.01
            scores = rng.dirichlet(alpha, size=ROWS).astype(np.float32)
            alive = np.ones(4, np.bool_)
            picks = select(
                compile_layer(plan, number, alive), scores, card.routing, row_fraction(1, tick * ROWS, ROWS, number)
            )
            mass.append(float(np.mean(picks.kept)))
            for expert, host in zip(picks.experts.ravel().tolist(), picks.hosts.ravel().tolist(), strict=True):
                if host < 0:
                    continue
                kinds: tuple[Precision, ...] = layer.precision[expert] if layer.precision else ()
                named = (k for k, s in zip(kinds, layer.hosts[expert], strict=False) if s.node == host)
                at: Precision = next(named, "int8")
                spent[host] += energy[at] * CALL_J * CALLS_S / ROWS
                coarse, used = coarse + (at == "int4"), used + 1
                rise = nats[at][number][expert] - nats["int8"][number][expert] if nats[at] else 0.0
                cost += max(rise, 0.0) / max(card.activation[number][expert], 1e-3) / ROWS
        watts, per_row = IDLE_W + spent, used / (ROWS * card.layers)
        if tick % every == every - 1:
            points.append(Point(
                (tick + 1) * TICK_S, sink, float(state.temperature_c.max()), coarse / max(used, 1), per_row, cost,
                float(np.mean(mass)),
            ))  # fmt: skip
    return points


def run() -> None:
    """Three ways to meet the same ramp."""
    for precision, selection in (("fixed", "topk"), ("by_importance_and_heat", "topk"), ("fixed", "lyapunov"),
                                 ("by_importance_and_heat", "lyapunov")):  # fmt: skip
        print(f"precision {precision}, selection {selection} (soft limit {LIMITS.temperature_soft_c:g} C)")
        print("  time s  sink C  hottest C  rows int4  experts a row  nats of int4 a token  mass kept")
        for p in ramp(precision, selection, 120):
            print(f"  {p.time_s:6.0f}  {p.sink_c:6.1f}  {p.temperature_c:9.1f}  {p.coarse:9.0%}  {p.experts:13.2f}"
                  f"  {p.nats:20.5f}  {p.mass:9.4f}")  # fmt: skip


__all__ = ["Point", "ramp", "run"]
