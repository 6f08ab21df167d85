"""The baseline of re-placement: experts stay where the placement put them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.resources import Moves, Resources
from ground_controller.policies.topk import Stateless
from ground_controller.policies.view import View


@dataclass(frozen=True)
class Stay:
    """No moves."""

    name: ClassVar[str] = "stay"

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def move(self, state: Stateless, view: View, resources: Resources) -> tuple[Stateless, Moves]:
        return state, Moves((), "experts stay")
