"""How warm a node is on a scale that policies act on: 0 at ease, 1 at the soft limit less a margin."""

from __future__ import annotations

from ground_controller.policies.view import View


def warmth(view: View, margin_c: float, span_k: float) -> tuple[float, ...]:
    """[N] clip((T - (T_soft - margin - span)) / span, 0, 1)."""
    begin = view.limits.temperature_soft_c - margin_c - span_k
    return tuple(min(max((node.temperature_c - begin) / span_k, 0.0), 1.0) for node in view.nodes)


def warmest(view: View) -> str:
    """A clause for a reason."""
    node = max(view.nodes, key=lambda one: (one.temperature_c, one.name))
    return f"{node.name} is warmest at {node.temperature_c:.1f} C"
