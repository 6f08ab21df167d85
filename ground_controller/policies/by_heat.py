"""The warmer a host, the coarser all its experts: levels over its warmth, with hysteresis.

level wanted = w (n - 1) for n precisions, finest first, w from 0 (at ease) to 1 (soft limit less margin); the level
rises when the wanted one exceeds it by 0.5 + band and falls when it is 0.5 + band below, so that a host does not
flip with every tick. A coarser expert costs less energy a call, hence less heat: the expert-precision half of
thermal throttling, where a processor would lower its clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.options import within
from ground_controller.policies.precisions import counted, everywhere, read_precisions
from ground_controller.policies.resources import Precisions, Resources
from ground_controller.policies.view import View
from ground_controller.policies.warmth import warmest, warmth
from hil_config.wire.manifest import Precision


@dataclass(frozen=True)
class Levels:
    """Of each node: index into the precisions."""

    nodes: tuple[int, ...]


@dataclass(frozen=True)
class ByHeat:
    """Args: `precisions` to choose from; coarsest `margin_c` below the soft limit, finest `span_k` below that; `band`
    of the hysteresis, in levels."""

    precisions: str = "int8 int4"
    margin_c: float = 2.0
    span_k: float = 8.0
    band: float = 0.15
    name: ClassVar[str] = "by_heat"

    def __post_init__(self) -> None:
        self.variants()
        within(self.name, "margin_c", self.margin_c, 0.0)
        within(self.name, "span_k", self.span_k, 0.1)
        within(self.name, "band", self.band, 0.0, 0.45)

    def variants(self) -> tuple[Precision, ...]:
        return read_precisions(self.name, self.precisions)

    def start(self, nodes: int) -> Levels:
        return Levels((0,) * nodes)

    def choose(self, state: Levels, view: View, resources: Resources) -> tuple[Levels, Precisions]:
        """Move each node's level, then say it for all it holds."""
        known = self.variants()
        top = len(known) - 1
        levels = []
        for level, warm in zip(state.nodes, warmth(view, self.margin_c, self.span_k), strict=True):
            wanted, now = warm * top, level
            while now < top and wanted > now + 0.5 + self.band:
                now += 1
            while now > 0 and wanted < now - 0.5 - self.band:
                now -= 1
            levels.append(now)
        table = everywhere(view, lambda layer, expert, node: known[levels[node]])
        return Levels(tuple(levels)), Precisions(table, f"{counted(table)}, {warmest(view)}")
