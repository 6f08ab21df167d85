"""Dynamic top-p: a PI loop moves p until rows use a wanted number of experts, or nodes a power (arXiv 2512.13996).

error = (target - measured) / target        sum <- sum + error step (bounded)        p = p0 + kp error + ki sum
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ground_controller.policies.eligibility import eligible_hosts, shortfall
from ground_controller.policies.options import within
from ground_controller.policies.sharing import even, plan_layers, with_trouble
from ground_controller.policies.topk import NO_THRESHOLD
from ground_controller.policies.view import Selection, View

LEAST_P = 0.05


@dataclass(frozen=True)
class Integral:
    """Sum of the relative error over scenario seconds."""

    error_s: float


@dataclass(frozen=True)
class DTopP:
    """Options.

    Args:
        target_experts: experts a row and layer; 0: steer by power.
        target_w: active power (above idle) of a node, mean over the nodes alive; used when target_experts is 0.
        p0: mass covered at no error. kp, ki: gains, 1 and 1/s of the relative error.
    """

    target_experts: float = 1.5
    target_w: float = 1.0
    p0: float = 0.8
    kp: float = 0.2
    ki: float = 0.002
    name: ClassVar[str] = "dtop_p"

    def __post_init__(self) -> None:
        within(self.name, "target_experts", self.target_experts, 0.0)
        within(self.name, "target_w", self.target_w, 1e-3)
        within(self.name, "p0", self.p0, LEAST_P, 1.0)
        within(self.name, "kp", self.kp, 0.0)
        within(self.name, "ki", self.ki, 0.0)

    def start(self, nodes: int) -> Integral:
        return Integral(0.0)

    def select(self, state: Integral, view: View) -> tuple[Integral, Selection]:
        """Advance the loop by the tick that has passed."""
        measured, target, what = self._measured(view)
        error = max(-1.0, min(1.0, (target - measured) / target))
        # Anti-windup: the integral alone never asks for more than the whole range of p.
        most_s = 1.0 / self.ki if self.ki > 0.0 else 0.0
        total = max(-most_s, min(most_s, state.error_s + error * view.step_s))
        p = max(LEAST_P, min(1.0, self.p0 + self.kp * error + self.ki * total))
        hosts = eligible_hosts(view)
        reason = with_trouble(f"p {p:.2f}: {what}", shortfall(view, hosts))
        k = view.model.routing.top_k
        return Integral(total), Selection(1.0, p, 1, k, NO_THRESHOLD, plan_layers(hosts, even), reason)

    def _measured(self, view: View) -> tuple[float, float, str]:
        if self.target_experts > 0.0:
            found = view.experts_per_row
            return found, self.target_experts, f"{found:.2f} experts a row, wanted {self.target_experts:g}"
        nodes = view.columns
        active = np.maximum(nodes.power_w - nodes.idle_power_w, 0.0)[nodes.alive]
        found = sum(sorted(active.tolist())) / len(active) if len(active) else 0.0
        return found, self.target_w, f"{found:.2f} W above idle a node, wanted {self.target_w:g}"
