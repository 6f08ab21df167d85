"""Do the energy windows hold: over the orbit on every node, and idle on both sides of it?"""

from __future__ import annotations

import msgspec

from ground_controller.journal import Journal
from ground_controller.report.energy import node_energy
from ground_controller.verification.check import Check, judged, listed, not_applicable
from ground_controller.verification.instruments import lost_nodes


def windows(journal: Journal) -> tuple[Check, Check]:
    """Gross energy is known for every node, and net energy stands on measured idle windows."""
    found = node_energy(journal)
    if not found:
        reason = "no node reports power"
        return not_applicable("energy windows", reason), not_applicable("idle baseline", reason)
    lost = lost_nodes(journal)
    without = {node: f"{node}: {energy.note}" for node, energy in found.items() if energy.gross_j is None}
    void = [why for node, why in without.items() if node not in lost]
    figure = f"{len(found) - len(without)} of {len(found)} nodes have a valid window"
    gone = [why for node, why in without.items() if node in lost]
    figure += f"; the run's energy is not known: {'; '.join(gone)}" if gone else ""
    gross = judged("energy windows", not void, figure, listed(void),
                   "the samples do not allow a figure: run the campaign again")  # fmt: skip
    asked_s = msgspec.json.decode(journal.meta("campaign"))["control"]["idle_s"]
    if not asked_s:
        return gross, not_applicable("idle baseline", "control.idle_s is 0: net energy uses the profile's idle power")
    if journal.meta("simulated", ""):
        return gross, not_applicable("idle baseline", "model nodes take no idle windows")
    bare = [f"{node}: {energy.note}" for node, energy in found.items() if energy.net_j is None]
    return gross, judged("idle baseline", not bare, f"{len(found) - len(bare)} of {len(found)} nodes have one",
                         listed(bare), "control.idle_s of at least 30, and boards that are left alone")  # fmt: skip
