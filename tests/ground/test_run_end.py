"""Who asks a run that is over is told so, and not left waiting."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from ground_controller.journal import Entry, Journal
from ground_controller.loop import TickBegan
from ground_controller.run_lock import RunLock, is_held
from ground_controller.steering import ANSWER_S, FOLDER, Request, ask, patience_s
from hil_config.errors import UsageError
from hil_config.schema.load import default_path, load_campaign

NEVER_S = 600.0
"""A test that waits for this has failed."""


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Of a run of 600 s whose second 40 has come."""
    made = Journal.create(tmp_path)
    made.set_meta("campaign", load_campaign(default_path("campaign")).model_dump_json())
    made.commit([Entry(8, 40.0, 1, "tick", "", "", 0, msgspec.json.encode(TickBegan(8, 40.0, 0.0, 0.0)))])
    (tmp_path / FOLDER).mkdir()
    return made


def refused(folder: Path) -> UsageError:
    with pytest.raises(UsageError) as found:
        ask(folder, Request("pause"), NEVER_S)
    assert not list((folder / FOLDER).iterdir()), "no request stays behind"
    return found.value


def test_one_that_ended(journal: Journal, tmp_path: Path) -> None:
    journal.set_meta("ended_utc", "2024-10-21T08:30:00Z")
    error = refused(tmp_path)
    assert error.message.endswith("this run ended at 2024-10-21T08:30:00Z, after 40 of 600 s of its orbit")
    assert (error.exit_code, error.hint) == (2, f"hil report {tmp_path}")
    journal.set_meta("inbox_overflow", "3")
    assert refused(tmp_path).message.endswith("; 3 arrivals were lost, so it is not valid")
    journal.close()


def test_one_whose_controller_died(journal: Journal, tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert "it stopped after 40 of 600 s of its orbit, with no end on record" in error.message
    assert error.hint == f"hil campaign resume {tmp_path}"
    journal.close()


def test_one_that_ends_while_somebody_waits(journal: Journal, tmp_path: Path) -> None:
    lock, found = RunLock(tmp_path), list[UsageError]()
    assert is_held(tmp_path)
    asking = threading.Thread(target=lambda: found.append(refused(tmp_path)))
    asking.start()
    pause = threading.Event()
    while asking.is_alive() and not list((tmp_path / FOLDER).iterdir()):
        pause.wait(0.01)
    journal.set_meta("ended_utc", "2024-10-21T08:30:00Z")
    asking.join(60.0)
    assert [one.message for one in found] == [
        f"{tmp_path}: this run ended at 2024-10-21T08:30:00Z, after 40 of 600 s of its orbit"
    ]
    lock.release()
    assert not is_held(tmp_path)
    journal.close()


def test_one_that_answers_nobody_one_that_has_not_begun_and_one_that_is_simulated(
    journal: Journal, tmp_path: Path
) -> None:
    lock = RunLock(tmp_path)
    with pytest.raises(UsageError, match="no answer in time, although its controller is there"):
        ask(tmp_path, Request("pause"), 0.01)
    (tmp_path / FOLDER).rmdir()
    with pytest.raises(UsageError, match="has not begun its orbit yet"):
        ask(tmp_path, Request("pause"), NEVER_S)
    journal.set_meta("simulated", "1")
    with pytest.raises(UsageError, match="a simulated run takes no orders"):
        ask(tmp_path, Request("pause"), NEVER_S)
    lock.release()
    journal.close()


def test_who_asks_waits_for_the_tick_that_is_under_way(journal: Journal, tmp_path: Path) -> None:
    intent = load_campaign(default_path("campaign"))
    slow = intent.model_copy(update={"control": intent.control.model_copy(update={"tick_s": 45.0})})
    journal.set_meta("campaign", slow.model_dump_json())
    journal.close()
    assert patience_s(tmp_path) == ANSWER_S + 45.0
