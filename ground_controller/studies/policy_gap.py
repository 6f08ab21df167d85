"""How far policies are from what could be reached with everything known: one seed, wear that the work adds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ground_controller.studies.chart import Table
from ground_controller.studies.offline_bound import Bound
from ground_controller.studies.policy_cells import IDLE
from ground_controller.studies.policy_verdicts import Found

FULL_MASS = 0.99
"""Policies that keep less do not serve what the bound serves."""


def _share(found: Found, wear: float) -> float:
    """Wear that the work adds, over what it adds under topk; seed 0, all orbits."""
    idle, topk = (found.values(p, "wear_total")[0] for p in (IDLE, "topk"))
    return float((wear - idle) / (topk - idle))


def gap_table(found: Found, policies: Sequence[str], bounds: Sequence[Bound]) -> Table:
    """Bounds first, then the policies that serve nearly all of the mass by their wear."""
    rows = []
    for bound, heat in zip(bounds, ("heat left out", "dies at or below the soft limit"), strict=True):
        if not bound.solved:
            rows.append(("lower bound", heat, "not found", bound.status, ""))
            continue
        rows.append(("lower bound", heat, f"{_share(found, bound.wear):.3f}", "proved: nothing can be lower", ""))
        rows.append((
            "its plan, lived", heat, f"{_share(found, bound.twin_wear):.3f}", "through the twin, bytes left out",
            f"{bound.twin_peak_c:.1f}",
        ))  # fmt: skip
    near = [p for p in policies if found.serves_all(p) and found.values(p, "kept")[0] >= FULL_MASS]
    for p in sorted(near, key=lambda name: float(found.values(name, "wear_total")[0])):
        share, peak = _share(found, float(found.values(p, "wear_total")[0])), found.values(p, "peak_c")[0]
        rows.append((p, "", f"{share:.3f}", f"keeps {found.values(p, 'kept')[0]:.4f} of the mass", f"{peak:.1f}"))
    return Table(
        "Seed 0 with everything known: wear that the work adds, over topk's (all orbits)",
        ("what", "limit", "added/topk", "note", "peak C"), tuple(rows),
    )  # fmt: skip


def gap_text(found: Found, bounds: Sequence[Bound]) -> str:
    """The gap of `horizon` in words."""
    held = bounds[1] if bounds[1].solved else bounds[0]
    if "horizon" not in found.policies or not held.solved:
        return "The offline bound was not found in its time, or horizon was not asked for: no gap is given."
    ours = _share(found, float(found.values("horizon", "wear_total")[0]))
    low, high = _share(found, held.wear), _share(found, held.twin_wear)
    return (
        f"With everything known (seed 0) the work can add {max(low, 0.0):.3f} to {high:.3f} of the wear that it adds"
        f" under topk: below the first number no plan that serves everything can come (a linear program, solved), the"
        f" second is what that program's plan comes to in the twin. horizon adds {ours:.3f}, so of what looking ahead"
        f" could save it saves {100 * (1 - ours) / (1 - high):.0f} % or less; its gap to the best plan found is"
        f" {ours - high:.3f}. Total wear with the bus is {_total(found, held):.1%} above that plan's."
    )


def _total(found: Found, held: Bound) -> float:
    return float(found.values("horizon", "wear_total")[0] / held.twin_wear - 1.0) if np.isfinite(held.wear) else np.nan
