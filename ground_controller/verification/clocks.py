"""Could the ground tell the nodes' times: offsets at the start, and drift since?

A clock that is wrong puts samples into the wrong tick and moves energy over the edges of windows
(`hil_config.energy.skew_error`). A tenth of a tick is allowed.
"""

from __future__ import annotations

import msgspec

from ground_controller.clock_keeper import ClockChecked
from ground_controller.journal import Journal
from ground_controller.verification.check import Check, judged, not_applicable

SHARE_OF_TICK = 0.1


def offsets(journal: Journal) -> Check:
    """Every node's clock was compared with the ground's, well enough."""
    if journal.meta("simulated", ""):
        return not_applicable("clock offsets", "model nodes share one stepped clock")
    known = msgspec.json.decode(journal.meta("clock_offsets_ns", "{}"), type=dict[str, tuple[int, int]])
    if not known:
        return Check("clock offsets", "fail", "no node's clock was measured", "journal", "run the campaign again")
    bound_ms = _bound_ms(journal)
    worst = max(known, key=lambda node: known[node][1])
    found_ms = known[worst][1] / 1e6
    return judged("clock offsets", found_ms <= bound_ms,
                  f"{len(known)} nodes, uncertain by at most {found_ms:.3f} ms, wanted {bound_ms:g}", worst,
                  "use a quieter or wired network between ground and boards")  # fmt: skip


def drift(journal: Journal) -> Check:
    """Between two checks no node's clock went astray further than is allowed."""
    if journal.meta("simulated", ""):
        return not_applicable("clock drift", "model nodes share one stepped clock")
    seen = [(abs(found.drift_ns) / 1e6, entry.node, entry.scenario_s, found.corrected)
            for entry in journal.entries("clock_check")
            for found in [msgspec.json.decode(entry.body, type=ClockChecked)]]  # fmt: skip
    if not seen:
        return not_applicable("clock drift", "the run was shorter than control.clock_check_s")
    drift_ms, node, at_s, _ = max(seen)
    bound_ms = _bound_ms(journal)
    figure = (f"{len(seen)} checks, at most {drift_ms:.3f} ms, wanted {bound_ms:g}; "
              f"{sum(corrected for *_, corrected in seen)} corrected")  # fmt: skip
    return judged("clock drift", drift_ms <= bound_ms, figure, f"{node} at {at_s:.1f} s",
                  "a lower control.clock_check_s corrects a clock sooner")  # fmt: skip


def _bound_ms(journal: Journal) -> float:
    return float(msgspec.json.decode(journal.meta("campaign"))["control"]["tick_s"]) * SHARE_OF_TICK * 1e3
