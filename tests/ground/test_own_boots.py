"""What a board's disk still holds of an earlier run is no work of this one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ground_controller.inbox import Arrival
from ground_controller.interruption import KIND as RESUMED
from ground_controller.interruption import RunResumed
from ground_controller.journal import Entry, Journal
from ground_controller.own_boots import EARLIER, OwnBoots
from ground_controller.verification.record import records
from hil_config.wire import messages as m
from hil_config.wire.messages import Status, encode


def status(boot_id: str, state: str = "online") -> Arrival:
    body = encode(Status(node="alpha", boot_id=boot_id, state=state))  # type: ignore[arg-type]
    return Arrival(1, "status", "alpha", boot_id, 0, body)


def token(boot_id: str, seq: int, kind: str = "token", epoch: int = 0) -> Arrival:
    return Arrival(1, kind, "alpha", boot_id, seq, b"{}", epoch)


def kinds(own: OwnBoots, *arrivals: Arrival) -> list[str]:
    return [one.kind for one in own.told_apart(list(arrivals))]


def test_only_boots_that_were_online_in_this_run_are_its_own(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "run")
    own = OwnBoots(journal)
    assert kinds(own, token("first", 1)) == ["token"], "nothing is known yet"
    assert kinds(own, token("before", 1), token("first", 1), status("first")) == [EARLIER, "token", "status"]
    assert kinds(own, status("before", "offline"), token("before", 2)) == ["status", EARLIER], "a will from long ago"
    assert kinds(own, status("second"), token("first", 2), token("second", 1)) == ["status", "token", "token"]
    assert kinds(own, token("before", 3, "gap")) == ["gap"]

    arrivals = own.told_apart([status("second"), token("before", 1), token("second", 1)])
    journal.commit([Entry(0, 0.0, *one[:6]) for one in arrivals])
    assert journal.watermarks() == {("alpha", "before"): 1, ("alpha", "second"): 1}, "the board may forget both"
    assert [entry.boot_id for entry in journal.entries("token")] == ["second"]
    assert kinds(OwnBoots(journal), token("second", 2), token("before", 2)) == ["token", EARLIER], "a run that goes on"
    journal.close()


def test_what_a_boot_recorded_for_another_controller_is_not_this_runs(tmp_path: Path) -> None:
    """The agent lived on, its spool still holds what a dead controller's run came to."""
    journal = Journal.create(tmp_path / "run")
    journal.set_meta("epoch", "7")
    told = [token("b", 1, epoch=5), token("b", 2), token("b", 3, epoch=7), token("b", 4, "gap", epoch=5)]
    assert kinds(OwnBoots(journal), status("b"), *told) == ["status", EARLIER, "token", "token", "gap"]
    assert kinds(OwnBoots(journal), token("b", 1, epoch=5)) == [EARLIER], "before it has said that it is there"
    resumed = RunResumed(9, 0.0, 0, 1, 1.0, {}, {}, (), (), "")
    journal.commit([Entry(1, 0.0, 1, RESUMED, "", "", 0, msgspec.json.encode(resumed))])
    mine = [token("b", n, epoch=epoch) for n, epoch in enumerate((7, 8, 9), 1)]
    assert kinds(OwnBoots(journal), status("b"), *mine) == ["status", "token", EARLIER, "token"]
    journal.close()


def record(boot_id: str, seq: int, body: m.NodeEvent | m.Gap, epoch: int = 0) -> Arrival:
    wrapped = m.Record(node="alpha", boot_id=boot_id, seq=seq, mono_ns=1, wall_ns=1, epoch=epoch, body=body)
    return Arrival(1, "gap" if isinstance(body, m.Gap) else "event", "alpha", boot_id, seq, encode(wrapped), epoch)


def test_what_was_given_up_before_a_run_is_no_hole_in_its_record(tmp_path: Path) -> None:
    """A bench in service: its agent lived on since the last run, and another one's spool was full when it died."""
    journal = Journal.create(tmp_path / "run")
    journal.set_meta("epoch", "7")
    own, told = OwnBoots(journal), m.NodeEvent("Something", 1)
    arrivals = [
        status("b"), record("dead", 9, m.Gap(((1, 8),), 1, "the spool was full")),
        record("b", 41, m.Gap(((1, 40),), 1, "committed by an earlier run")), record("b", 42, told, 7),
    ]  # fmt: skip
    journal.commit([Entry(0, 0.0, *one[:6]) for one in own.told_apart(arrivals)])
    assert journal.gaps() == {} and records(journal).outcome == "pass"
    late = record("b", 46, m.Gap(((43, 45),), 1, "the spool was full"), 7)
    journal.commit([Entry(0, 0.0, *one[:6]) for one in own.told_apart([late])])
    found = records(journal)
    assert found.outcome == "fail" and "alpha (boot b): 3 given up by it" in found.where
    journal.close()
