"""The baseline of transmission: every frame in the codec of its link, as the campaign has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.resources import Resources, Sendings
from ground_controller.policies.topk import Stateless
from ground_controller.policies.view import View


@dataclass(frozen=True)
class Full:
    """No rules."""

    name: ClassVar[str] = "full"

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def rule(self, state: Stateless, view: View, resources: Resources) -> tuple[Stateless, Sendings]:
        return state, Sendings(None, "every frame in the codec of its link")
