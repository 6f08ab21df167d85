"""How the rows of an expert are divided among its replicas, and the plan layer that follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ground_controller.policies.eligibility import HostTable
from hil_config.wire.plan import LayerPlan, Share

LEAST_SHARE = 1e-3
"""A smaller share is dropped: it would cost a frame for no rows."""

Weigh = Callable[[int], float]
"""Weight (>= 0) of a node for the rows of an expert."""


def shares(held: Sequence[int], weigh: Weigh) -> tuple[Share, ...]:
    """Shares in proportion to the weights; even where every weight is 0, so that an expert keeps a host."""
    if not held:
        return ()
    weights = [max(weigh(node), 0.0) for node in held]
    total = math.fsum(weights)
    if not math.isfinite(total) or total <= 0.0:
        return tuple(Share(node, 1.0 / len(held)) for node in held)
    kept = [(node, weight) for node, weight in zip(held, weights, strict=True) if weight >= LEAST_SHARE * total]
    total = math.fsum(weight for _, weight in kept)
    return tuple(Share(node, weight / total) for node, weight in kept)


def even(node: int) -> float:
    """Every replica alike."""
    return 1.0


def plan_layers(hosts: HostTable, weigh: Weigh, price: Weigh | None = None) -> tuple[LayerPlan, ...]:
    """Layers whose experts are priced at their cheapest host's `price` (0 without) and shared by `weigh`."""
    known: dict[tuple[int, ...], tuple[float, tuple[Share, ...]]] = {}  # experts on the same hosts are treated alike
    layers = []
    for layer in hosts:
        for held in layer:
            if held not in known:
                cost = max(min([price(node) for node in held]), 0.0) if price is not None and held else 0.0
                known[held] = (cost, shares(held, weigh))
        found = [known[held] for held in layer]
        layers.append(
            LayerPlan(tuple([cost for cost, _ in found]), tuple([each for _, each in found]), (-1,) * len(found))
        )
    return tuple(layers)


def relative(values: Sequence[float]) -> list[float]:
    """Each value over the mean of the known (positive, finite) ones; 1 where it is not known."""
    known = [value for value in values if math.isfinite(value) and value > 0.0]
    mean = math.fsum(known) / len(known) if known else 1.0
    return [value / mean if math.isfinite(value) and value > 0.0 else 1.0 for value in values]


def with_trouble(reason: str, trouble: str) -> str:
    """A reason with what is wrong behind it."""
    return f"{reason}; {trouble}" if trouble else reason
