"""Bring a bench up as a run would, ask every board, and take it down again. Nothing is generated."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from ground_controller.core import Core
from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.inbox import Inbox
from ground_controller.introduction import introduce
from ground_controller.preflight.nodes import clocks, releases
from ground_controller.preparation import Prepared
from ground_controller.stage import Stage
from ground_controller.verification.check import Check, judged, listed, not_applicable
from hil_config.errors import HilError
from hil_config.wire.orders import Finish

FINISH_S = 5.0
RUN = "preflight"


def look_at_boards(prepared: Prepared, folder: Path) -> tuple[Check, ...]:
    """Reachable, of this release, clocks known, shards there and sound.

    Args:
        folder: an empty one, for logs and sockets of what is started here.
    """
    names = ("agent versions", "clock offsets", "shards on boards")
    with ExitStack() as opened:
        try:
            stage = Stage(prepared, folder)
            opened.callback(stage.close)
            stage.take_command(0, False)
            fleet = stage.open(Inbox())
        except HilError as error:
            unknown = (not_applicable(name, "the bench did not come up") for name in names)
            return (Check("boards online", "fail", error.message, prepared.bench.bench, error.hint), *unknown)
        nodes = stage.nodes
        told = ", ".join(f"{node} (boot {fleet.statuses[node].boot_id})" for node in nodes[:8])
        found = [
            judged("boards online", True, f"{len(nodes)} of {len(nodes)}: {told}"),
            releases(fleet.statuses, nodes),
        ]
        try:
            offsets = {node: fleet.clock_offset_ns(node) for node in nodes}
            found.append(clocks(offsets, prepared.campaign.control.tick_s))
        except HilError as error:
            found.append(Check("clock offsets", "fail", error.message, "", error.hint))
        found.append(_shards(prepared, stage, fleet, opened))
        fleet.ask(nodes, {node: Finish() for node in nodes}, FINISH_S)
        return tuple(found)


def _shards(prepared: Prepared, stage: Stage, fleet: MqttFleet, opened: ExitStack) -> Check:
    """Have every board load what the placement gives it: it verifies each file by itself."""
    core = Core(prepared.setting, prepared.policy, stage.epoch, prepared.campaign.control.plan_ttl_s)
    plan, nodes = core.advance(-1, 0.0, []).plan, stage.nodes
    client, orders, wait_s = introduce(prepared, RUN, stage, fleet, plan, lambda avoid: None, lambda event: None)
    opened.callback(client.close)
    replies = fleet.ask(nodes, orders, wait_s)
    wrong = [f"{node}: no answer within {wait_s:g} s" for node in nodes if node not in replies]
    wrong += [f"{node}: {reply.error}" for node, reply in replies.items() if not reply.ok]
    hint = next((reply.hint for reply in replies.values() if reply.hint), "read the agent's log: hil bench doctor")
    figure = f"{len(nodes) - len(wrong)} of {len(nodes)} loaded and verified their shards"
    return judged("shards on boards", not wrong, figure, listed(wrong), hint)


def look_at_bench(prepared: Prepared) -> tuple[Check, ...]:
    """As `look_at_boards`, in a folder of its own that is gone afterwards."""
    with TemporaryDirectory(prefix="hil-preflight-") as name:
        return look_at_boards(prepared, Path(name))
