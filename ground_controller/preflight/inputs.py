"""What can be looked at without boards: space for the record, the schedule, its paths, the shards' files."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ground_controller.preparation import Prepared
from ground_controller.verification.check import Check, judged, listed
from ground_controller.verification.hashes import shards

BYTES_PER_NODE_S = 150_000
"""A node and host second of record, tables and report: 65 kB on the demonstration (10 Hz, six generations), doubled."""
RESERVE_BYTES = 200 << 20


def space(prepared: Prepared, folder: Path, from_s: float = 0.0) -> Check:
    """The file system of the run folder has room for the run, or for what is left of it after orbit second `from_s`."""
    home = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    orbit, control = prepared.campaign.orbit, prepared.campaign.control
    seconds = max(orbit.duration_s - from_s, 0.0) / orbit.rate + 2.0 * control.idle_s
    wanted = RESERVE_BYTES + int(seconds * len(prepared.setting.nodes) * BYTES_PER_NODE_S)
    free = shutil.disk_usage(home).free
    nodes = len(prepared.setting.nodes)
    figure = f"{free / 1e9:.1f} GB free, wanted {wanted / 1e9:.2f} for {seconds:.0f} s of {nodes} nodes"
    elsewhere = "" if from_s else ", or put runs elsewhere: --out"
    return judged("disk space", free >= wanted, figure, str(home), f"free some{elsewhere}")


def schedule(prepared: Prepared) -> Check:
    """The link schedule covers the campaign's orbit and its satellites."""
    asked_s, found = prepared.campaign.orbit.duration_s, prepared.schedule
    missing = [name for name in prepared.setting.satellites if name not in found.header.satellites]
    good = found.duration_s >= asked_s and not missing
    figure = f"{found.duration_s:g} s, wanted {asked_s:g}; {len(missing)} mapped satellites missing"
    return judged("schedule", good, figure, ", ".join(missing[:4]), "compile a longer one: hil schedule build")


def paths(prepared: Prepared) -> Check:
    """At some instant each expert can be reached from a gateway of its layer, and each slice from the one before."""
    setting, placed = prepared.setting, prepared.placement
    reach = _ever_up(prepared)
    index = {name: n for n, name in enumerate(setting.nodes)}
    slices = [[index[name] for name in piece.nodes] for piece in placed.gateways]
    lost = [
        f"{layer}.{expert}"
        for piece, gateways in zip(placed.gateways, slices, strict=True)
        for layer in range(piece.first, piece.last + 1)
        for expert, held in enumerate(placed.holders[layer])
        if held and not reach[np.ix_(gateways, held)].any()
    ]
    apart = [
        f"layer {piece.last} to {piece.last + 1}"
        for piece, (a, b) in zip(placed.gateways, pairwise(slices), strict=False)
        if not reach[np.ix_(a, b)].any()
    ]
    whole = sum(bool(held) for layer in placed.holders for held in layer)
    figure = f"{whole - len(lost)} of {whole} experts within reach of their gateways at some instant"
    if apart:
        figure += f"; never from {listed(apart)}"
    return judged(
        "paths", not lost and not apart, figure, f"layer.expert {listed(lost)}" if lost else "",
        "look at the links: hil schedule build CAMPAIGN --out FILE; then more satellites, a larger orbit.max_range_km,"
        " or orbit.relay",
    )  # fmt: skip


def _ever_up(prepared: Prepared) -> NDArray[np.bool_]:
    """[N, N] whether two nodes can exchange frames at some instant, over other boards where the campaign lets them."""
    schedule, place = prepared.schedule, {name: n for n, name in enumerate(prepared.setting.satellites)}
    ever = np.eye(len(place), dtype=np.bool_)
    step_s = schedule.header.step_s
    up = np.asarray(schedule.sample(np.arange(0.0, schedule.duration_s + step_s / 2, step_s)).up.any(axis=0))
    for column, (a, b) in enumerate(schedule.header.pairs):
        if up[column] and a in place and b in place:
            ever[place[a], place[b]] = True
    campaign = prepared.campaign
    if campaign.links.relay or campaign.policies.routing != "direct":
        for n in range(len(place)):
            ever |= np.outer(ever[:, n], ever[n])
    return ever & ever.T


def look_at_inputs(prepared: Prepared, folder: Path) -> tuple[Check, ...]:
    """Everything that needs no board."""
    return (space(prepared, folder), schedule(prepared), paths(prepared), shards(prepared))
