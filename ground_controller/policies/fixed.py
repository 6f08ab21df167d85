"""The baseline of precision: every host serves at one precision, the campaign's or the one that is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.precisions import everywhere, read_precisions
from ground_controller.policies.resources import Precisions, Resources
from ground_controller.policies.topk import Stateless
from ground_controller.policies.view import View
from hil_config.wire.manifest import Precision


@dataclass(frozen=True)
class Fixed:
    """Args: `precision` fp32, fp16, int8 or int4; empty: the campaign's own."""

    precision: str = ""
    name: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        self.variants()

    def variants(self) -> tuple[Precision, ...]:
        return read_precisions(self.name, self.precision) if self.precision else ()

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def choose(self, state: Stateless, view: View, resources: Resources) -> tuple[Stateless, Precisions]:
        """The same at every tick."""
        wanted = self.variants()
        if not wanted:
            return state, Precisions((), "every expert as its host holds it")
        return state, Precisions(everywhere(view, lambda layer, expert, node: wanted[0]), f"{wanted[0]} everywhere")
