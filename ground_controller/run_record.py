"""What a run on nodes writes down of itself: what it began with, and what happened at its client and its clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ground_controller.characterisation import KEY as CHARACTERISATION
from ground_controller.characterisation import records_of
from ground_controller.client_events import TokenArrived
from ground_controller.clock_keeper import ClockChecked
from ground_controller.inbox import Arrival, Inbox
from ground_controller.interruption import RETURNED, BoardReturned
from ground_controller.journal import Journal
from ground_controller.preparation import Prepared, profiles_hash
from ground_controller.software import software
from hil_config.wire.schedule_file import schedule_hash

_CLIENT_KINDS = {"TokenArrived": "client_token", "AttemptBegan": "attempt", "RequestBegan": "request_begin",
                 "RequestEnded": "request_end", "TextScored": "text_scored"}  # fmt: skip


def utc_now() -> str:
    """This instant as the journal's rows on beginnings and ends have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def system_boot() -> str:
    """This machine's name for the time since it was started; monotonic clocks mean something within it only."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


class RunRecord:
    """Events go through `inbox`, so that they are in the journal before the world hears of them."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.tokens = 0
        self._listeners: list[Callable[[TokenArrived], None]] = []

    def hear_tokens(self, listener: Callable[[TokenArrived], None]) -> None:
        """Have `listener` told of every token, by the thread that brings it: it must not wait for anything."""
        self._listeners.append(listener)

    def client_event(self, event: msgspec.Struct) -> None:
        """Something of `client_events`, or a scored text."""
        kind = _CLIENT_KINDS[type(event).__name__]
        self.tokens += kind == "client_token"
        self._inbox.put(Arrival(time.monotonic_ns(), kind, "", "", 0, msgspec.json.encode(event)))
        if isinstance(event, TokenArrived):
            for listener in self._listeners:
                listener(event)

    def clock_checked(self, node: str, found: ClockChecked) -> None:
        self._inbox.put(Arrival(time.monotonic_ns(), "clock_check", node, "", 0, msgspec.json.encode(found)))

    def board_returned(self, node: str, found: BoardReturned) -> None:
        self._inbox.put(Arrival(time.monotonic_ns(), RETURNED, node, "", 0, msgspec.json.encode(found)))


def inputs_of(prepared: Prepared, run: str, epoch: int) -> dict[str, str]:
    """What a run was made of, on nodes or in simulation: what the journal says of it beside the entries."""
    p = prepared
    return {
        "run": run, "epoch": str(epoch), "config_sha256": p.config_sha256,
        "bench": p.bench.model_dump_json(), "campaign": p.campaign.model_dump_json(),
        "manifest_sha256": p.manifest_sha256, "shards": str(p.shards),
        "schedule_sha256": schedule_hash(p.schedule_bytes),
        "model_card": msgspec.json.encode(p.manifest.model).decode(),
        "evaluation": p.evaluation.path if p.evaluation else "",
        "evaluation_sha256": p.evaluation.sha256 if p.evaluation else "",
        "profiles_sha256": profiles_hash(p.profiles, p.campaign.power is not None),
    }  # fmt: skip


def write_beginning(journal: Journal, folder: Path, prepared: Prepared, epoch: int) -> None:
    """Everything that replay and report need beside the entries; the schedule goes into a file of its own."""
    for key, value in {
        **inputs_of(prepared, folder.name, epoch),
        CHARACTERISATION: msgspec.json.encode(records_of(prepared.bench)).decode(),
        "began_utc": utc_now(), "software": msgspec.json.encode(software()).decode(), "system_boot": system_boot(),
    }.items():  # fmt: skip
        journal.set_meta(key, value)
    (folder / "schedule.hsched").write_bytes(prepared.schedule_bytes)
