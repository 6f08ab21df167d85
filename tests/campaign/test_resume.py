"""A controller is killed outright in the middle of a run, twice; the run goes on and ends as an unbroken one does."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import msgspec
import pytest

from ground_controller.arrival_times import poisson
from ground_controller.client_events import RequestEnded, TokenArrived
from ground_controller.decision import same_decision
from ground_controller.interruption import RunResumed, resumptions
from ground_controller.journal import NAME, Journal
from ground_controller.past import recall
from ground_controller.replay import prepare_again
from ground_controller.resume import resume_campaign
from ground_controller.run_lock import RunLock
from hil_config.errors import EnvironmentFault, InvalidRunError
from tests.campaign.conftest import Finished, Starter, hil, processes_of

REQUESTS = 10
CAMPAIGN = {
    "orbit__duration_s": 900, "workload__requests": REQUESTS, "workload__max_new_tokens": 16,
    "policies__selection": {"name": "topk"}, "workload__arrivals": "poisson", "workload__rate_per_s": 2.0,
}  # fmt: skip


NEAR_TIE = 0.1
"""Logits. What another host answers after a hedge is rounded elsewhere on its way, and int8 activations make hundredths
of that: a token that leads by less may be another one, and what follows it then rightly is too."""


class Broken(NamedTuple):
    """How an interrupted run ended, and its folder as the first kill left it."""

    ended: Finished
    killed: Path


@pytest.fixture(scope="module")
def unbroken(module_starter: Starter) -> Finished:
    finished = module_starter.start("unbroken", **CAMPAIGN).wait(120.0)
    assert finished.code == 0, finished.errors
    return finished


@pytest.fixture(scope="module")
def broken(module_starter: Starter, tmp_path_factory: pytest.TempPathFactory) -> Broken:
    run = module_starter.start("broken", **CAMPAIGN)
    run.wait_tokens(20)
    run.process.kill()
    run.process.wait(10.0)
    killed = tmp_path_factory.mktemp("killed") / "run"
    shutil.copytree(run.folder, killed, ignore=shutil.ignore_patterns("*.sock"))
    again = module_starter.resume(run.folder)
    again.wait_tokens(run.count("client_token") + 20)
    with pytest.raises(EnvironmentFault, match=f"process {again.process.pid} is running this run"):
        RunLock(run.folder)
    again.process.kill()
    again.process.wait(10.0)
    ended = module_starter.resume(run.folder).wait(120.0)
    assert ended.code == 0, ended.errors
    return Broken(ended, killed)


def _texts(folder: Path) -> dict[int, tuple[int, ...]]:
    journal = Journal.read(folder)
    try:
        ends = [msgspec.json.decode(entry.body, type=RequestEnded) for entry in journal.entries("request_end")]
    finally:
        journal.close()
    assert max(Counter(end.request for end in ends).values()) == 1, "no request ends twice"
    return {end.request: end.tokens for end in ends}


def _clear(folder: Path) -> dict[int, int]:
    """Tokens of each request before the first that leads by less than `NEAR_TIE`."""
    journal = Journal.read(folder)
    try:
        tokens = [msgspec.json.decode(entry.body, type=TokenArrived) for entry in journal.entries("client_token")]
    finally:
        journal.close()
    near = {(one.request, one.position) for one in tokens if one.margin < NEAR_TIE}
    requests = {one.request: sorted(two.position for two in tokens if two.request == one.request) for one in tokens}
    return {
        request: next((i for i, place in enumerate(places) if (request, place) in near), len(places))
        for request, places in requests.items()
    }


def test_each_request_has_the_tokens_of_the_unbroken_run(broken: Broken, unbroken: Finished) -> None:
    found, wanted = _texts(broken.ended.folder), _texts(unbroken.folder)
    assert sorted(found) == sorted(wanted) == list(range(1, REQUESTS + 1))
    clear = _clear(unbroken.folder)
    for request, count in clear.items():
        assert found[request][:count] == wanted[request][:count], f"request {request}, {count} tokens without a tie"
    assert sum(clear.values()) > 40, "the margins must leave something to compare"


def test_nothing_is_lost_and_nothing_counted_twice(broken: Broken) -> None:
    m = broken.ended.metrics
    assert m["complete"] and m["finished"] == REQUESTS
    assert m["record_gaps"] == {} and m["records_missing"] == {}
    journal = Journal.read(broken.ended.folder)
    try:
        tokens = [msgspec.json.decode(entry.body, type=TokenArrived) for entry in journal.entries("client_token")]
        ended = _texts(broken.ended.folder)
        places = Counter((one.request, one.position) for one in tokens)
        assert max(places.values()) == 1 and len(tokens) == sum(map(len, ended.values())) == m["tokens"]
        boots = {node: {e.boot_id for e in journal.entries("samples") if e.node == node} for node in ("alpha", "delta")}
        assert {len(found) for found in boots.values()} == {3}, "each controller's agents handed in their record"
    finally:
        journal.close()


def test_the_report_names_each_interruption_and_replay_derives_all_of_it(broken: Broken) -> None:
    m, journal = broken.ended.metrics, Journal.read(broken.ended.folder)
    try:
        found: list[RunResumed] = resumptions(journal)
        ticks = [entry.scenario_s for entry in journal.entries("tick")]
    finally:
        journal.close()
    assert [one.epoch for one in found] == [2, 3] and all(one.gap_s > 0.0 for one in found)
    assert [(i["agents"], i["epoch"]) for i in m["interruptions"]] == [("started anew", 2), ("started anew", 3)]
    assert ticks == [5.0 * n for n in range(len(ticks))], "the orbit waited for its controller"
    assert "interrupted, gone on with" in (broken.ended.folder / "report.html").read_text()
    replayed = broken.ended.replay()
    assert replayed["mismatches"] == replayed["unchecked"] == 0 and replayed["ticks"] == len(ticks)
    assert not processes_of(broken.ended.folder)


def test_who_may_not_go_on_with_a_run(broken: Broken) -> None:
    over = hil("campaign", "resume", str(broken.ended.folder))
    assert over.returncode == 2 and "this run has ended" in over.stderr
    journal = Journal.reopen(broken.killed)
    journal.set_meta("system_boot", "another")
    journal.close()
    restarted = hil("campaign", "resume", str(broken.killed))
    assert restarted.returncode == 2 and "this machine was started again" in restarted.stderr


def test_a_tick_without_its_decision_is_decided_and_a_changed_record_found_out(broken: Broken, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(broken.killed, folder)
    with closing(sqlite3.connect(folder / NAME)) as db, db:
        last, body = db.execute("SELECT id, body FROM entry WHERE kind = 'decision' ORDER BY id DESC").fetchone()
        db.execute("DELETE FROM entry WHERE id >= ?", (last,))
    journal = Journal.reopen(folder)
    try:
        prepared = prepare_again(journal)
        past = recall(journal, prepared)
        decided = list(journal.entries("decision"))
        assert decided[-1].tick == past.last.tick and same_decision(past.last, body)
        assert past.under_way and len(decided) == sum(1 for _ in journal.entries("tick"))
        with closing(sqlite3.connect(folder / NAME)) as db, db:
            first = db.execute("SELECT body FROM entry WHERE kind = 'decision' ORDER BY id").fetchone()[0]
            changed = first.replace(b'"scenario_s":0.0', b'"scenario_s":0.5')
            assert changed != first
            db.execute("UPDATE entry SET body = ? WHERE kind = 'decision' AND tick = 0", (changed,))
        with pytest.raises(InvalidRunError, match="the decision of tick 0 is another"):
            recall(journal, prepared)
    finally:
        journal.close()


def test_a_run_that_never_ticked_has_nothing_to_go_on_with(broken: Broken, tmp_path: Path) -> None:
    folder = tmp_path / "early"
    shutil.copytree(broken.killed, folder)
    with closing(sqlite3.connect(folder / NAME)) as db, db:
        db.execute("DELETE FROM entry")
        db.execute("UPDATE meta SET value = ? WHERE key = 'system_boot'", (_boot(),))
    done = hil("campaign", "resume", str(folder))
    assert done.returncode == 2 and "died before its first tick" in done.stderr


def test_a_run_is_not_gone_on_with_on_a_full_disk(
    broken: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "full"
    shutil.copytree(broken.killed, folder)
    journal = Journal.reopen(folder)
    journal.set_meta("system_boot", _boot())
    journal.close()
    before = (folder / NAME).read_bytes()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(EnvironmentFault, match="not ready: disk space: 0") as caught:
        resume_campaign(folder, lambda progress: None)
    assert caught.value.hint == "free some"
    assert (folder / NAME).read_bytes() == before


def test_requests_arrive_by_the_hosts_clock_also_where_the_orbit_was_moved(module_starter: Starter) -> None:
    """Forty host seconds of orbit were skipped and nobody waited for them: no request is overdue after it."""
    run = module_starter.start("moved", **CAMPAIGN | {"workload__requests": 400})
    run.wait_tokens(5)
    assert hil("control", "seek", str(run.folder), "420").returncode == 0
    run.wait_tokens(run.count("client_token") + 20)
    run.process.kill()
    run.process.wait(10.0)
    begun = run.count("request_begin")
    again = module_starter.resume(run.folder)
    again.wait_entries("request_begin", lambda body: json.loads(body)["request"] == begun + 3)
    again.process.kill()
    again.process.wait(10.0)
    with closing(sqlite3.connect(run.folder / NAME)) as db:
        rows = db.execute(
            "SELECT kind, host_ns FROM entry WHERE kind IN ('tick', 'resumed', 'request_begin') ORDER BY id"
        )
        entries = rows.fetchall()
    resumed = [kind for kind, _ in entries].index("resumed")
    ticks, since = ([ns for kind, ns in part if kind == "tick"] for part in (entries[:resumed], entries[resumed:]))
    later = [ns for kind, ns in entries[resumed:] if kind == "request_begin"]
    due = [one.at_s for one in itertools.islice(poisson(2.0, 1), begun + len(later))]
    for at_s, ns in zip(due[begun:], later, strict=True):
        assert (ns - since[0] + ticks[-1] - ticks[0]) / 1e9 > at_s - 0.1, "none begins before its time"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
