"""What arXiv 2605.00515 says of trends (its figure 7), held against a sweep."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np

from ground_controller.studies.spacemoe_cases import RULES, Found

RANDOM = ("RandPlace", "RandIntra", "RandIntra-CG")


def by_knob(turned: list[Found]) -> dict[str, list[Found]]:
    """The sweep by knob, the base case put where its value belongs."""
    at_base = {
        "altitude_km": "550", "planes": "33", "link survival": "0.95", "skew of use": "1", "experts": "8",
        "layers": "32", "top-k": "2", "GFLOPS": "7.28", "tracking limit": "0.12 rad/s", "phasing F": "0",
    }  # fmt: skip
    base, answer = turned[0], dict[str, list[Found]]()
    for one in turned[1:]:
        answer.setdefault(one.knob, []).append(one)
    for knob, value in at_base.items():
        if knob in answer:
            answer[knob].append(msgspec.structs.replace(base, knob=knob, value=value))
            answer[knob].sort(key=lambda one: _order(one.value))
    return answer


def _order(value: str) -> float:
    number, _, unit = value.partition(" ")
    return float(np.degrees(float(number))) if unit == "rad/s" else float(number)


def trend_verdicts(turned: list[Found]) -> list[tuple[str, bool, str]]:
    """Each statement, whether it was found, and the numbers."""
    knobs = by_knob(turned)
    labels = [rule.label for rule in RULES]
    ends = {
        knob: {label: (knobs[knob][0].mean(label), knobs[knob][-1].mean(label)) for label in labels}
        for knob in ("altitude_km", "planes", "tracking limit")
    }
    growth = {label: high - low for label, (low, high) in ends["altitude_km"].items()}
    size, changed = ends["planes"], [f"{one.knob} {one.value}" for one in turned if not one.ordered]
    small, large = size["SpaceMoE"]
    survival, altitude = knobs["link survival"], knobs["altitude_km"]
    planes = f"{knobs['planes'][0].value} to {knobs['planes'][-1].value} planes"
    return [
        ("the order of the four never changes", not changed, ", ".join(changed) or f"{len(turned)} settings"),
        ("latency rises with altitude", all(_rises(altitude, label) for label in labels), "550 to 1,600 km"),
        ("SpaceMoE's rises least", min(growth, key=lambda label: growth[label]) == "SpaceMoE",
         ", ".join(f"{label} +{rise:.2f} s" for label, rise in growth.items())),
        ("a larger constellation helps SpaceMoE", large < small, f"{planes}: {small:.2f} to {large:.2f} s"),
        ("and hurts the random ones", all(size[label][1] > size[label][0] for label in RANDOM),
         ", ".join(f"{label} {size[label][0]:.2f} to {size[label][1]:.2f} s" for label in RANDOM)),
        ("better link survival lowers latency", all(_rises(survival[::-1], label) for label in labels), "0.8 to 1"),
        ("so does a faster tracking limit", all(slow > fast for slow, fast in ends["tracking limit"].values()),
         ", ".join(f"{one.value} {one.mean('SpaceMoE'):.2f} s" for one in knobs["tracking limit"])),
    ]  # fmt: skip


def _rises(rows: list[Found], rule: str) -> bool:
    return all(later.mean(rule) > one.mean(rule) for one, later in itertools.pairwise(rows))
