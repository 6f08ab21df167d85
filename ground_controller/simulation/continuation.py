"""A simulated run whose process died goes on, exactly: it is calculated again from its seed, held against its own
record entry by entry, and written on from where that ends. Nothing but the record had to be saved, and a record that
was changed is found out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from ground_controller.journal import Entry, Journal
from ground_controller.loop import TickBegan
from ground_controller.replay import prepare_again
from ground_controller.run_lock import RunLock
from ground_controller.simulation.board_model import decode_calibration
from ground_controller.simulation.run import Kill, SimProgress, Simulation, Speed
from hil_config.errors import InvalidRunError, UsageError


class _Simulated(msgspec.Struct):
    stride: int
    kills: tuple[Kill, ...] = ()


def _told(entry: Entry) -> tuple[object, ...]:
    """An entry without what this machine took for it: lateness and the time of a decision."""
    body: object = entry.body
    if entry.kind == "tick":
        began = msgspec.json.decode(entry.body, type=TickBegan)
        body = (began.tick, began.scenario_s)
    return (entry.tick, entry.scenario_s, entry.host_ns, entry.kind, entry.node, entry.boot_id, entry.seq, body)


def content_hash(folder: Path) -> str:
    """SHA-256 (hex) over all entries of a simulated run, in their order, without the times of the machine it ran on."""
    journal = Journal.read(folder)
    try:
        found = hashlib.sha256()
        for entry in journal.entries():
            found.update(repr(_told(entry)).encode())
        return found.hexdigest()
    finally:
        journal.close()


class Continuation(Journal):
    """Takes what is committed again as a comparison while there is record left, and as new after that."""

    _then: list[Entry] | None = None
    compared = 0

    def commit(self, entries: list[Entry]) -> list[Entry]:
        """As `Journal.commit`; InvalidRunError if an entry is another than the one on record."""
        if self._then is None:
            self._then = list(self.entries())[::-1]
        at = 0
        while at < len(entries) and self._then:
            then, now = self._then.pop(), entries[at]
            if _told(then) != _told(now):
                raise InvalidRunError(
                    f"{self.path}: entry {self.compared + 1} (tick {then.tick}, {then.kind}) is not what the same "
                    f"simulation gives now (tick {now.tick}, {now.kind})",
                    "the record was changed, or another release made it: simulate again into a new folder",
                )
            self.compared += 1
            at += 1
            if now.seq > 0:
                self._advance((now.node, now.boot_id), now.seq, [])
        return [*entries[:at], *(super().commit(entries[at:]) if at < len(entries) else [])]


def continue_simulation(folder: Path, show: Callable[[SimProgress], None] | None = None) -> tuple[Speed, int]:
    """Bring a simulated run to its end; how fast, and how many entries were on record already.

    Raises:
        UsageError: the run was on boards, or has ended.
        EnvironmentFault: another process is running it.
        InvalidRunError: its inputs or its record are not those it began with.
    """
    with ExitStack() as opened:
        journal = Continuation.reopen(folder)
        opened.callback(journal.close)
        text = journal.meta("simulated", "")
        if not text:
            raise UsageError(
                f"{folder}: this run was on boards or local agents, not in simulation", f"hil campaign resume {folder}"
            )
        if journal.meta("ended_utc", ""):
            raise UsageError(f"{folder}: this run has ended", f"hil report {folder}")
        RunLock(folder).release()  # before anything long: is somebody at it?
        how = msgspec.json.decode(text, type=_Simulated)
        boards = decode_calibration(journal.meta("calibration"))
        run = Simulation(prepare_again(journal), folder, boards, how.stride, how.kills, journal=journal)
        opened.callback(run.close)
        return run.run(show), journal.compared
