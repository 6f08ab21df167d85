"""A policy whose process dies in the middle of a run, as by want of memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from ground_controller.policies.topk import Stateless
from ground_controller.policies.view import Selection, View


@dataclass(frozen=True)
class Deadly:
    name: ClassVar[str] = "deadly"

    def start(self, nodes: int) -> Stateless:
        return Stateless()

    def select(self, state: Stateless, view: View) -> tuple[Stateless, Selection]:
        os._exit(9)
