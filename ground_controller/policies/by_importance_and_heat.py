"""As a host warms, its least important experts fall to a coarser precision first.

A host of warmth w must save w of the energy that the coarsest precision of everything would save. Steps (expert, one
precision coarser) are taken in rising

    rise in nats a token / energy saved a token = (nats_e(coarser) - nats_e(finer)) / (a_e (e(finer) - e(coarser)))

until that is reached: the greedy of the continuous multiple-choice knapsack (Sinha & Zoltners 1979), one host at a
time. nats_e are calibrated on text; without calibration the expert's importance (mean ||w y||) stands in, one unit
a step. a_e is the expert's share of tokens. w moves only when it is further from the last one than the band.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.options import within
from ground_controller.policies.precisions import counted, everywhere, read_precisions
from ground_controller.policies.resources import Precisions, Resources, Variant
from ground_controller.policies.view import View
from ground_controller.policies.warmth import warmest, warmth
from hil_config.wire.manifest import Precision

_LEAST = 1e-12


@dataclass(frozen=True)
class Demands:
    """Of each node: the share of the possible saving that it is held to."""

    nodes: tuple[float, ...]


@dataclass(frozen=True)
class ByImportanceAndHeat:
    """Args: as of `by_heat`; `band` in shares of the saving."""

    precisions: str = "int8 int4"
    margin_c: float = 2.0
    span_k: float = 8.0
    band: float = 0.05
    name: ClassVar[str] = "by_importance_and_heat"

    def __post_init__(self) -> None:
        self.variants()
        within(self.name, "margin_c", self.margin_c, 0.0)
        within(self.name, "span_k", self.span_k, 0.1)
        within(self.name, "band", self.band, 0.0, 0.5)

    def variants(self) -> tuple[Precision, ...]:
        return read_precisions(self.name, self.precisions)

    def start(self, nodes: int) -> Demands:
        return Demands((0.0,) * nodes)

    def choose(self, state: Demands, view: View, resources: Resources) -> tuple[Demands, Precisions]:
        """Move each node's demand, then meet it at least cost."""
        warm = warmth(view, self.margin_c, self.span_k)
        demand = tuple(
            now if abs(now - before) > self.band or now in {0.0, 1.0} else before
            for before, now in zip(state.nodes, warm, strict=True)
        )
        known = [one for one in resources.variants if one.precision in self.variants()]
        if not known:
            return Demands(demand), Precisions((), "no host holds another precision")
        held: list[list[tuple[int, int]]] = [[] for _ in view.nodes]
        for layer, row in enumerate(view.holders):
            for expert, nodes in enumerate(row):
                for node in nodes:
                    held[node].append((layer, expert))
        chosen = [self._coarsen(view, known, mine, demand[node]) for node, mine in enumerate(held)]
        table = everywhere(view, lambda layer, expert, node: known[chosen[node].get((layer, expert), 0)].precision)
        saving = max(demand, default=0.0)
        reason = f"{counted(table)}, at most {saving:.0%} of the saving is asked for, {warmest(view)}"
        return Demands(demand), Precisions(table, reason)

    def _coarsen(
        self, view: View, known: list[Variant], held: list[tuple[int, int]], demand: float
    ) -> dict[tuple[int, int], int]:
        """Index into `known` of the experts of one node that are not at the finest."""
        steps: list[tuple[float, int, int, int, float]] = []
        for layer, expert in held:
            ratio = 0.0
            for index in range(1, len(known)):
                saved = max(view.model.activation[layer][expert], _LEAST) * max(
                    known[index - 1].energy - known[index].energy, _LEAST
                )
                # Never cheaper than the step before it, so that an expert's own steps are taken in their order.
                ratio = max(ratio, self._rise(view, known, index, layer, expert) / saved)
                steps.append((ratio, layer, expert, index, saved))
        wanted = demand * sum(step[4] for step in steps)
        chosen: dict[tuple[int, int], int] = {}
        for _, layer, expert, index, saved in sorted(steps):
            if wanted <= _LEAST * _LEAST:
                break
            chosen[layer, expert] = max(index, chosen.get((layer, expert), 0))
            wanted -= saved
        return chosen

    def _rise(self, view: View, known: list[Variant], index: int, layer: int, expert: int) -> float:
        finer, coarser = known[index - 1], known[index]
        if not finer.nats or not coarser.nats:
            return view.model.importance[layer][expert]
        return max(coarser.nats[layer][expert] - max(finer.nats[layer][expert], 0.0), 0.0)
