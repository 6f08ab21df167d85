"""What can be looked at without boards: space for the record, the schedule, the shards' files."""

from __future__ import annotations

import shutil
from pathlib import Path

from ground_controller.preparation import Prepared
from ground_controller.verification.check import Check, judged
from ground_controller.verification.hashes import shards

BYTES_PER_NODE_S = 150_000
"""A node and host second of record, tables and report: 65 kB on the demonstration (10 Hz, six generations), doubled."""
RESERVE_BYTES = 200 << 20


def space(prepared: Prepared, folder: Path) -> Check:
    """The file system of the run folder has room for the run."""
    home = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    orbit, control = prepared.campaign.orbit, prepared.campaign.control
    seconds = orbit.duration_s / orbit.rate + 2.0 * control.idle_s
    wanted = RESERVE_BYTES + int(seconds * len(prepared.setting.nodes) * BYTES_PER_NODE_S)
    free = shutil.disk_usage(home).free
    nodes = len(prepared.setting.nodes)
    figure = f"{free / 1e9:.1f} GB free, wanted {wanted / 1e9:.2f} for {seconds:.0f} s of {nodes} nodes"
    return judged("disk space", free >= wanted, figure, str(home), "free some, or put runs elsewhere: --out")


def schedule(prepared: Prepared) -> Check:
    """The link schedule covers the campaign's orbit and its satellites."""
    asked_s, found = prepared.campaign.orbit.duration_s, prepared.schedule
    missing = [name for name in prepared.setting.satellites if name not in found.header.satellites]
    good = found.duration_s >= asked_s and not missing
    figure = f"{found.duration_s:g} s, wanted {asked_s:g}; {len(missing)} mapped satellites missing"
    return judged("schedule", good, figure, ", ".join(missing[:4]), "compile a longer one: hil schedule build")


def look_at_inputs(prepared: Prepared, folder: Path) -> tuple[Check, ...]:
    """Everything that needs no board."""
    return (space(prepared, folder), schedule(prepared), shards(prepared))
