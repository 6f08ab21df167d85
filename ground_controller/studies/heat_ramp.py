"""Heat ramp: as the twin's sink warms, precision and expert count fall and temperature holds; what that costs in nats.

Modelled nodes in a closed loop with the twin; calls cost what their precision's bytes say. What it costs is computed,
not estimated: at every point the reference model itself reads held-out text under the plan of that moment, with its
prices, limits and precisions. Nothing here is measured on a board.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from ground_controller.further import with_precisions
from ground_controller.further_setup import variants
from ground_controller.policies.registry import precision_policy, selection_policy
from ground_controller.policies.resources import Resources
from ground_controller.policies.view import Limits, NodeView, View
from ground_controller.preparation import cache_folder, platform_of
from ground_controller.studies.chart import Chart, Curve, Study, Table
from ground_controller.twin import Twin
from hil_config.schema.platforms import PlatformChoice
from hil_config.wire.importance import read_importance
from hil_config.wire.manifest import ModelCard, Precision
from hil_config.wire.plan import GatewaySlice, LayerPlan, SelectionPlan
from models.build import build_shards
from models.evaluate import items, read_evaluation
from models.heldout import read_tokenizer
from models.locate import reference_checkpoint
from models.planned import PlannedModel
from models.serving.gate import select
from models.serving.layer_gate import compile_layer, row_fraction

PROVENANCE = (
    "modelled: boards, heat and energy. Measured: nats, of the real quantised reference model on held-out text under"
    " the modelled plans"
)
TEXTS = 8
NAMES = ("a", "b", "c", "d")
TICK_S, TICKS, ROWS = 5.0, 720, 64
LIMITS = Limits(59.0, 70.0, 0.3, 0.2, 2.0, 0.05)
IDLE_W, CALLS_S, CALL_J = 1.8, 30.0, 0.025
"""Rows a layer and second, all nodes; with top-2 of int8 4 x 2 x 30 x 0.025 / 4 = 1.5 W a node."""
SINK_C = (0.0, 18.0)
"""The sink warms evenly over the first half of the hour, then stays."""


@dataclass(frozen=True)
class Point:
    """Means over nodes at one time; `mass` served of synthetic rows. `nats` a token of held-out text under the plan,
    above those of the same text under top-k at the finest precision; `perplexity` there; `read_experts` a row."""

    time_s: float
    sink_c: float
    temperature_c: float
    coarse: float
    experts: float
    mass: float
    nats: float
    perplexity: float
    read_experts: float


class Reader:
    """Held-out text, some of each domain, read by the model under a plan."""

    def __init__(self, folder: Path, card: ModelCard) -> None:
        kinds: tuple[Precision, ...] = ("int8", "int4")
        self._model = PlannedModel(folder, [[kinds] * card.experts] * card.layers)
        checkpoint = reference_checkpoint()
        found = read_evaluation(checkpoint / "evaluation.json")
        every = items(found, read_tokenizer(checkpoint), card.end_of_text, 192)
        running = [item.tokens for item in every if item.question < 0]
        self._texts = [tokens for tokens in running if len(tokens) > 96][:: max(1, len(running) // TEXTS)][:TEXTS]
        self._k = card.routing.top_k
        self._plain: float | None = None

    def read(self, plan: SelectionPlan, experts: int) -> tuple[float, float, float]:
        """(nats a token above top-k at int8, perplexity, experts a row) on hosts that are all there."""
        if self._plain is None:
            layers = tuple(LayerPlan((0.0,) * experts, y.hosts, (-1,) * experts) for y in plan.layers)
            self._plain = self._nats(
                msgspec.structs.replace(plan, layers=layers, scale=1.0, coverage=1.0, k_min=self._k, k_max=self._k)
            )
        self._model.picked = self._model.rows = 0
        nats = self._nats(plan)
        return nats - self._plain, math.exp(nats), self._model.picked / self._model.rows

    def _nats(self, plan: SelectionPlan) -> float:
        total = 0.0
        for number, tokens in enumerate(self._texts):
            self._model.under(plan, request=number)
            total += self._model.nll(tokens) * (len(tokens) - 1)
        return total / sum(len(tokens) - 1 for tokens in self._texts)


def ramp(precision: str, selection: str, every: int = 60, options: dict[str, object] | None = None) -> list[Point]:
    """One hour under a precision and a selection policy; the same rows for all."""
    folder = cache_folder() / "models" / "checkpoint-int8-int4"
    manifest = build_shards(reference_checkpoint(), folder, ("int8", "int4"))
    card, known = manifest.model, variants(manifest, ("int8", "int4"), "int8", read_importance(folder, manifest))
    energy, reader = {v.precision: v.energy for v in known}, Reader(folder, card)
    holders = tuple(tuple((e % 4, (e + 1) % 4) for e in range(card.experts)) for _ in range(card.layers))
    gateways = (GatewaySlice(0, card.layers - 1, NAMES),)
    delay = np.full((4, 4), 0.01)
    np.fill_diagonal(delay, 0.0)
    chooser, selector = precision_policy(precision), selection_policy(selection, options or {})
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
        spent, coarse, used, mass = np.zeros(4), 0, 0, []
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
        watts, per_row = IDLE_W + spent, used / (ROWS * card.layers)
        if tick % every == every - 1:
            points.append(Point(
                (tick + 1) * TICK_S, sink, float(state.temperature_c.max()), coarse / max(used, 1), per_row,
                float(np.mean(mass)), *reader.read(plan, card.experts),
            ))  # fmt: skip
    return points


WAYS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("fixed", "topk", {}), ("by_importance_and_heat", "topk", {}), ("by_importance_and_heat", "lyapunov", {}),
    ("by_importance_and_heat", "lyapunov", {"hot_cap": 0.3}),
)  # fmt: skip


def heat_ramp_study(told: Callable[[str], None], every: int = 40) -> Study:
    """Four ways to meet the same ramp, a point every so many ticks."""
    found: dict[str, list[Point]] = {}
    for precision, selection, options in WAYS:
        name = ", ".join([precision, selection, *(f"{key} {value}" for key, value in options.items())])
        told(name)
        found[name] = ramp(precision, selection, every, options)
    rows = [
        (name, f"{max(p.temperature_c for p in points):.1f}", f"{points[-1].coarse:.0%}", f"{points[-1].experts:.2f}",
         f"{points[-1].nats:+.4f}", f"{points[-1].perplexity:.3f}", f"{min(p.mass for p in points):.4f}")
        for name, points in found.items()
    ]  # fmt: skip
    head = ("precision, selection", "hottest C", "rows at int4 in the end", "experts a row in the end",
            "nats over top-k's in the end (measured)", "perplexity", "least mass kept")  # fmt: skip
    limit = (LIMITS.temperature_soft_c, "soft limit")
    sink = Curve("sink", *_line(next(iter(found.values())), "sink_c"))
    charts = (
        Chart("heat-ramp-temperature", "Hottest die as the sink warms (modelled)", "s", "degrees C",
              (*_curves(found, "temperature_c"), sink), limit=limit),
        Chart("heat-ramp-precision", "Rows served at int4 (modelled)", "s", "share", _curves(found, "coarse")),
        Chart("heat-ramp-experts", "Experts a row and layer (modelled)", "s", "experts", _curves(found, "experts")),
        Chart("heat-ramp-nats", "Nats a token over top-k at int8 (measured under modelled plans)", "s",
              "nats a token", _curves(found, "nats")),
    )  # fmt: skip
    text = (
        f"The sink of four modelled boards warms from {SINK_C[0]:g} to {SINK_C[1]:g} C within half an hour and stays."
        " Energy of a call is in proportion to the bytes of its weights (modelled). Nats are those of the real"
        f" reference model on {TEXTS} held-out texts under the plan of each point, over the same under top-k at int8.",
    )
    numbers = {"ways": {name: [asdict(point) for point in points] for name, points in found.items()}}
    return Study(
        "heat-ramp", "Precision falls, temperature holds", PROVENANCE, "hil study heat-ramp",
        (Table("The same ramp, four ways", head, tuple(rows)),), charts, text, numbers,
    )  # fmt: skip


def _line(points: list[Point], key: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(p.time_s for p in points), tuple(float(getattr(p, key)) for p in points)


def _curves(found: dict[str, list[Point]], key: str) -> tuple[Curve, ...]:
    return tuple(Curve(name, *_line(points, key)) for name, points in found.items())
