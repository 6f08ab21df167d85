"""What the boards' own words tell: releases, boots, clocks."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from ground_controller.verification.check import Check, judged, listed
from ground_controller.verification.clocks import SHARE_OF_TICK
from hil_config.errors import EnvironmentFault
from hil_config.wire.messages import Status

PACKAGE = "spacemoe-hil"
Offset = tuple[int, int]


def releases(statuses: Mapping[str, Status], nodes: tuple[str, ...]) -> Check:
    """Every agent is of the ground's release."""
    ours = metadata.version(PACKAGE)
    wrong = [f"{node}: {statuses[node].agent_version or 'unknown'}" for node in nodes
             if statuses[node].agent_version != ours]  # fmt: skip
    figure = f"{len(nodes) - len(wrong)} of {len(nodes)} run {ours}, as the ground does"
    return judged("agent versions", not wrong, figure, listed(wrong), "bring them there: hil provision upgrade")


def clocks(offsets: Mapping[str, Offset], tick_s: float) -> Check:
    """Every node's clock is known to a tenth of a tick."""
    bound_ms = tick_s * SHARE_OF_TICK * 1e3
    wrong = [f"{node}: {uncertain / 1e6:.3f} ms" for node, (_, uncertain) in offsets.items()
             if uncertain / 1e6 > bound_ms]  # fmt: skip
    worst_ms = max((uncertain for _, uncertain in offsets.values()), default=0) / 1e6
    figure = f"uncertain by at most {worst_ms:.3f} ms, wanted {bound_ms:g}"
    return judged("clock offsets", not wrong, figure, listed(wrong), "use a quieter or wired network to the boards")


def refuse_unready(checks: tuple[Check, ...]) -> None:
    """EnvironmentFault that names what failed and where, if anything did."""
    failed = [check for check in checks if check.outcome == "fail"]
    if failed:
        told = "; ".join(f"{one.name}: {one.figure}" + (f" ({one.where})" if one.where else "") for one in failed)
        raise EnvironmentFault(f"not ready: {told}", failed[0].hint)
