"""What became of each node and its satellite: temperature and charge against their limits, wear, rows, joules."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.decision import history
from ground_controller.physics.ageing_cycles import count_cycles, woehler_wear, xu_wear
from ground_controller.report.energy import NodeEnergy
from ground_controller.report.passed import ROUNDING_S, Passed

Float = NDArray[np.float64]


class NodeResult(msgspec.Struct, frozen=True):
    """One node over the run. Temperature, charge and wear are the twin's.

    Margins are what was left to a limit at the worst moment: below 0 it was passed. `gross_uncertainty_j`: standard,
    from sampling; `idle_w`, `idle_from`: what was subtracted for `net_j`.
    """

    node: str
    satellite: str
    ended: str
    temperature_peak_c: float
    temperature_mean_c: float
    temperature_margin_soft_k: float
    temperature_margin_hard_k: float
    over_soft_limit_s: float
    out_of_service_s: float
    charge_start: float
    charge_end: float
    charge_least: float
    charge_margin_soft: float
    charge_margin_hard: float
    wear: float
    wear_rainflow: float
    wear_xu: float
    voltage_least_v: float
    sunlit_share: float
    expert_rows: int
    gross_j: float | None
    gross_uncertainty_j: float | None
    net_j: float | None
    idle_w: float | None
    idle_from: str
    energy_note: str


def node_results(
    passed: Passed, campaign: dict[str, Any], rows: dict[int, int], energy: dict[str, NodeEnergy],
    alive: NDArray[np.bool_],
) -> tuple[NodeResult, ...]:  # fmt: skip
    """In the order of the plan, over the decisions within the orbit.

    Args:
        rows: expert rows by node index. energy: by node name. alive: [N] at the end of the run.
    """
    decisions, lived_s = passed.orbit()
    fields = ("in_service", "temperature_c", "charge", "voltage_v", "sunlit", "wear", "over_limit_s")
    seen = {field: history(decisions, field) for field in fields}
    beyond_s = decisions[-1].scenario_s - campaign["orbit"]["duration_s"]
    if beyond_s > ROUNDING_S and len(decisions) > 1:
        _end_with_the_orbit(seen, float(lived_s[-1] / (lived_s[-1] + beyond_s)))
    # What a decision says holds until the next one.
    weight = lived_s if lived_s.any() else np.ones_like(lived_s)
    limits = campaign["twin"]["limits"]
    results = []
    for i, name in enumerate(decisions[0].plan.nodes):
        warm, charge = seen["temperature_c"][:, i], seen["charge"][:, i]
        peak_c, least = float(warm.max()), float(charge.min())
        one = energy.get(name)
        worn = _counted_wear(charge, warm, lived_s, weight)
        results.append(
            NodeResult(
                node=name, satellite=campaign["orbit"]["satellites"][i],
                ended="alive" if alive[i] else "lost",
                temperature_peak_c=round(peak_c, 3),
                temperature_mean_c=round(float(np.average(warm, weights=weight)), 3),
                temperature_margin_soft_k=round(limits["temperature_soft_c"] - peak_c, 3),
                temperature_margin_hard_k=round(limits["temperature_hard_c"] - peak_c, 3),
                over_soft_limit_s=round(float(lived_s @ (np.diff(seen["over_limit_s"][:, i], prepend=0.0) > 0.0)), 3),
                out_of_service_s=round(float(lived_s[1:] @ ~seen["in_service"][:-1, i]), 3),
                charge_start=round(float(charge[0]), 5), charge_end=round(float(charge[-1]), 5),
                charge_least=round(least, 5), charge_margin_soft=round(least - limits["charge_soft"], 5),
                charge_margin_hard=round(least - limits["charge_hard"], 5),
                wear=float(seen["wear"][-1, i]), wear_rainflow=worn[0], wear_xu=worn[1],
                voltage_least_v=round(float(seen["voltage_v"][:, i].min()), 4),
                sunlit_share=round(float(np.average(seen["sunlit"][:, i], weights=weight)), 4),
                expert_rows=rows.get(i, 0),
                gross_j=one.gross_j if one else None,
                gross_uncertainty_j=round(one.uncertainty_j, 5) if one and one.gross_j is not None else None,
                net_j=one.net_j if one else None, idle_w=one.idle_w if one else None,
                idle_from=one.idle_from if one else "", energy_note=one.note if one else "no samples",
            )
        )  # fmt: skip
    return tuple(results)


def _end_with_the_orbit(seen: dict[str, NDArray[Any]], share: float) -> None:
    """Of the tick in which the orbit ends only a share lies within it: what the twin integrates, at the orbit's end."""
    for field in ("temperature_c", "charge", "voltage_v", "wear"):
        values = seen[field] = seen[field].copy()
        values[-1] = values[-2] + share * (values[-1] - values[-2])


def _counted_wear(charge: Float, warm: Float, lived_s: Float, weight: Float) -> tuple[float, float]:
    """Share of life used by one satellite's history [T]: rainflow with Woehler's line, and Xu et al."""
    cycles = count_cycles(charge, warm)
    charge_mean, warm_mean = (float(np.average(values, weights=weight)) for values in (charge, warm))
    return woehler_wear(cycles), xu_wear(cycles, float(lived_s.sum()), charge_mean, warm_mean)
