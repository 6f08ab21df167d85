"""Each check of `hil campaign verify` passes on a sound run and fails on the one thing that was planted for it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from ground_controller.clock_keeper import ClockChecked
from ground_controller.journal import NAME
from ground_controller.preparation import prepare
from ground_controller.simulation.run import simulate
from ground_controller.verification.verify import verify_run
from hil_config.schema.load import default_path, load_bench, load_campaign
from hil_config.wire import messages as m
from hil_config.wire.provenance import fake, measured

Plant = Callable[[sqlite3.Connection], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run to which nothing was done."""
    intent = load_campaign(default_path("campaign"))
    intent = intent.model_copy(update={"orbit": intent.orbit.model_copy(update={"duration_s": 40.0})})
    folder = tmp_path_factory.mktemp("sound") / "run"
    simulate(prepare(load_bench(default_path("bench")), intent), folder)
    return folder


def _set(key: str, value: str) -> Plant:
    def plant(db: sqlite3.Connection) -> None:
        db.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))

    return plant


def _as_if_on_boards(*more: Plant) -> Plant:
    """The same record without the word that it is simulated: what is asked of boards is then asked of it."""

    def plant(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM meta WHERE key = 'simulated'")
        for one in more:
            one(db)

    return plant


def _entry(kind: str, node: str, body: bytes) -> Plant:
    def plant(db: sqlite3.Connection) -> None:
        db.execute(
            "INSERT INTO entry (tick, scenario_s, host_ns, kind, node, boot_id, seq, body)"
            " VALUES (5, 5, 0, ?, ?, 'x', 0, ?)",
            (kind, node, body),
        )

    return plant


def _event(name: str, **details: str) -> Plant:
    body = m.NodeEvent(name, 0, dict(details))
    return _entry("event", "bravo", m.encode(_record(body)))


def _record(body: m.NodeEvent | m.SampleBatch) -> m.Record:
    return m.Record(node="bravo", boot_id="x", seq=0, mono_ns=0, wall_ns=0, body=body)


def _flags(*values: float) -> Plant:
    """Throttle flags at instants before the run: no other check hears of them."""
    batch = m.SampleBatch(tuple(range(len(values))), {"throttled_flags": values})
    return _entry("samples", "bravo", m.encode(_record(batch)))


def _status(**changes: object) -> Plant:
    status = m.Status(node="bravo", boot_id="x", state="serving", agent_version="0.1.0", **changes)  # type: ignore[arg-type]
    return _entry("status", "bravo", m.encode(status))


def _one_decision_less(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM entry WHERE kind = 'decision' AND tick = 7")


def _another_token(db: sqlite3.Connection) -> None:
    row, body = db.execute("SELECT id, body FROM entry WHERE kind = 'client_token' LIMIT 1").fetchone()
    token = json.loads(body)
    db.execute(
        "UPDATE entry SET body = ? WHERE id = ?", (json.dumps({**token, "token": token["token"] + 1}).encode(), row)
    )


def _another_price(db: sqlite3.Connection) -> None:
    row, body = db.execute("SELECT id, body FROM entry WHERE kind = 'decision' AND tick = 9").fetchone()
    decision = json.loads(body)
    decision["scenario_s"] += 0.001
    db.execute("UPDATE entry SET body = ? WHERE id = ?", (json.dumps(decision).encode(), row))


def _samples_gone(db: sqlite3.Connection) -> None:
    ids = db.execute("SELECT id FROM entry WHERE kind = 'samples' AND node = 'charlie' AND tick IN (5, 6)").fetchall()
    assert ids
    db.executemany("DELETE FROM entry WHERE id = ?", ids)


def _late(db: sqlite3.Connection) -> None:
    row, body = db.execute("SELECT id, body FROM entry WHERE kind = 'tick' AND tick = 4").fetchone()
    late = json.dumps({**json.loads(body), "lateness_s": 9.0}).encode()
    db.execute("UPDATE entry SET body = ? WHERE id = ?", (late, row))


_drift = msgspec.json.encode(ClockChecked(0, 1_000, 60_000_000, True))
PLANTED: dict[str, tuple[Plant, str, str]] = {
    "never ended": (_set("ended_utc", ""), "complete", "never"),
    "other configuration": (_set("config_sha256", "00" * 32), "configuration", "recorded 000000000000"),
    "other schedule": (_set("schedule_sha256", "00" * 32), "schedule", "recorded 000000000000"),
    "record missing": (_set("records_missing", '{"delta-1": 3}'), "records", "1 sources with gaps or refused ones"),
    "message unread": (_entry("bad_message", "bravo", b'"of a later release"'), "messages", "1 could not be read"),
    "samples gone": (_samples_gone, "telemetry gaps", "wanted at most 3"),
    "decision gone": (_one_decision_less, "ticks", "not one for one"),
    "decision changed": (_another_price, "replay", "1 mismatches"),
    "token changed": (_another_token, "tokens", "in a gateway's evidence"),
    "fake sensor": (
        _status(quantities=(m.Quantity("flow", "1", 1.0, fake("a flow meter")),)), "fakes", "1 fake",
    ),
    "reading refused": (_event("SensorFlagged", quantity="power_w", reason="stuck"), "readings", "1 times"),
    "eased off": (_event("SafetyActed", state="ease", reason="the firmware throttles"), "throttling", "0 readings"),
    "throttled between readings": (_flags(0x0, 0x40000), "throttling", "2 readings"),
    "late tick": (_as_if_on_boards(_late), "ticks", "900.0 ms late"),
    "uncertain clock": (
        _as_if_on_boards(_set("clock_offsets_ns", json.dumps(
            {name: (0, 80_000_000 if name == "bravo" else 1_000) for name in ("alpha", "bravo", "charlie", "delta")}
        ))), "clock offsets", "80.000 ms",
    ),
    "drifting clock": (_as_if_on_boards(_entry("clock_check", "bravo", _drift)), "clock drift", "60.000 ms"),
    "other model": (
        _as_if_on_boards(_status(manifest_sha256="11" * 32)), "model on boards", "0 of 4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(sound: Path, tmp_path: Path, name: str) -> None:
    plant, wanted, figure = PLANTED[name]
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as db:
        plant(db)
    checks = {check.name: check for check in verify_run(folder)}
    assert checks[wanted].outcome == "fail"
    assert figure in checks[wanted].figure
    assert checks[wanted].hint


def test_throttling_of_an_earlier_hour_is_not_this_runs(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as db:
        _flags(0x50000, 0x50000)(db)
        _status(quantities=(m.Quantity("throttled_flags", "1", 1.0, measured("firmware")),))(db)
    found = {check.name: check.outcome for check in verify_run(folder)}
    assert found["throttling"] == "pass"


def test_a_sound_run_passes(sound: Path) -> None:
    found = {check.name: check.outcome for check in verify_run(sound)}
    assert "fail" not in found.values()
    assert [name for name, outcome in found.items() if outcome == "pass"] == [
        "journal file", "complete", "configuration", "schedule", "records", "messages", "ticks", "tokens", "fakes",
        "telemetry gaps", "readings", "energy windows", "shards", "replay",
    ]  # fmt: skip


def test_bytes_that_were_flipped_in_the_file(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    with closing(sqlite3.connect(folder / NAME)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray((folder / NAME).read_bytes())
    data[40_960:45_056] = bytes(4_096)
    (folder / NAME).write_bytes(data)
    first, rest = verify_run(folder)
    assert (first.name, first.outcome, rest.outcome) == ("journal file", "fail", "not applicable")


@pytest.mark.parametrize("kind", ["token", "samples", "client_token", "decision"])
def test_an_entry_that_cannot_be_read_is_a_failed_check(sound: Path, tmp_path: Path, kind: str) -> None:
    """SQLite finds nothing wrong with such a file; the other checks would end where they meet the entry."""
    run = tmp_path / "run"
    shutil.copytree(sound, run)
    with sqlite3.connect(run / "journal.sqlite") as db:
        db.execute("UPDATE entry SET body = x'00ff' WHERE id = (SELECT MAX(id) FROM entry WHERE kind = ?)", (kind,))
    db.close()
    found = verify_run(run)
    assert [(check.name, check.outcome) for check in found] == [
        ("journal file", "fail"), ("everything else", "not applicable"),
    ]  # fmt: skip
    assert f"({kind}" in found[0].figure and "cannot be read" in found[0].figure


def test_exit_code_and_json(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as db:
        _set("config_sha256", "00" * 32)(db)
    done = subprocess.run(
        [sys.executable, "-m", "hil_config.door", "campaign", "verify", str(folder), "--json"],
        capture_output=True, text=True, timeout=120.0, check=False,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert (done.returncode, told["passed"]) == (10, False)
    assert "checks failed: configuration" in done.stderr
    assert {check["outcome"] for check in told["checks"]} == {"pass", "fail", "not applicable"}
