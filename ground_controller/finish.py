"""The end of a run: the last evidence of every node comes in, then the agents that were started go home."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from ground_controller.fleet.leftovers import collect
from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.inbox import Inbox
from ground_controller.journal import Journal
from ground_controller.loop import Loop
from ground_controller.run_record import utc_now
from ground_controller.stage import Stage
from hil_config.errors import InvalidRunError
from hil_config.wire.orders import Finish, Shutdown

FINISH_S = 5.0
DRAIN_S = 15.0


def finish(
    stage: Stage, fleet: MqttFleet, loop: Loop, journal: Journal, inbox: Inbox, folder: Path, alive: tuple[str, ...]
) -> None:
    """Let the nodes `alive` hand in their last record, write what is missing, send local agents home.

    Raises:
        InvalidRunError: arrivals were lost, because the inbox was full.
    """
    replies = fleet.ask(alive, {node: Finish() for node in alive}, FINISH_S)
    wanted = {(reply.node, reply.boot_id): reply.last_seq for reply in replies.values()}
    deadline = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline:
        loop.run_tick()
        marks = journal.watermarks()
        if all(marks.get(source, 0) >= seq for source, seq in wanted.items()):
            break
    dead = [node for node in stage.nodes if node not in replies]
    if collect(folder / "spool", dead, inbox, stage.shape):
        loop.run_tick()
    marks = journal.watermarks()
    short = {f"{n}-{b}": seq - marks.get((n, b), 0) for (n, b), seq in wanted.items() if marks.get((n, b), 0) < seq}
    journal.set_meta("records_missing", msgspec.json.encode(short).decode())
    journal.set_meta("broker_restarts", str(stage.broker_restarts))
    journal.set_meta("ended_utc", utc_now())
    journal.set_meta("inbox_overflow", str(inbox.overflowed))
    for node in alive:
        if node in stage.local:
            fleet.tell(node, Shutdown())
    if inbox.overflowed:
        raise InvalidRunError(
            f"{folder}: {inbox.overflowed} arrivals did not fit the inbox; the run is not valid",
            "use a longer control.tick_s or fewer boards",
        )
