"""Faults while text is generated: boards, the broker and the command itself are killed or stopped."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from ground_controller.client_events import AttemptBegan, RequestBegan, TokenArrived
from ground_controller.decision import Decision
from ground_controller.journal import Journal
from hil_config.wire.messages import Record, SampleBatch, TokenEvidence, decode

if TYPE_CHECKING:
    from tests.campaign.conftest import Finished, Launched, Starter

OpenJournal = Callable[[Path], Journal]
LeftOver = Callable[[Path], list[psutil.Process]]

BEFORE = 20
"""Tokens that are recorded before the fault: every request is decoding by then."""
STOPPED_S = 2.0


def _tokens(journal: Journal) -> list[tuple[int, TokenArrived]]:
    return [
        (entry.host_ns, msgspec.json.decode(entry.body, type=TokenArrived)) for entry in journal.entries("client_token")
    ]


def _evidence(journal: Journal) -> list[TokenEvidence]:
    found = []
    for entry in journal.entries("token"):
        body = decode(entry.body, Record).body
        assert isinstance(body, TokenEvidence)
        found.append(body)
    return found


def _check_tokens(journal: Journal) -> None:
    """One result for each position, no position left out, whatever happened."""
    prompts = {
        begin.request: len(begin.prompt_tokens)
        for entry in journal.entries("request_begin")
        for begin in [msgspec.json.decode(entry.body, type=RequestBegan)]
    }
    by_request: dict[int, list[int]] = defaultdict(list)
    for _, token in _tokens(journal):
        by_request[token.request].append(token.position)
    for request, positions in by_request.items():
        assert positions == [prompts[request] + i for i in range(len(positions))]


def _check_marks(journal: Journal) -> Counter[str]:
    """Every token says what happened to it: what the evidence has, and the start of a later attempt."""
    causes: dict[tuple[int, int, int], set[str]] = defaultdict(set)
    for evidence in _evidence(journal):
        key = (evidence.request, evidence.attempt, evidence.start + evidence.rows)
        if any(layer.rerouted for layer in evidence.layers):
            causes[key].add("rerouted")
        if any(layer.lost for layer in evidence.layers):
            causes[key].add("lost")
    counted: Counter[str] = Counter()
    attempts: dict[int, int] = {}
    for _, token in _tokens(journal):
        marks = set(token.degraded)
        assert causes[token.request, token.attempt, token.position] <= marks
        again = token.attempt > 1 and attempts.get(token.request) != token.attempt
        assert ("re-prefilled" in marks) == again
        attempts[token.request] = token.attempt
        counted.update(marks)
    return counted


def _check_lost(finished: Finished, lost: list[str], killed_ns: int, journal: Journal) -> None:
    """What every run with dead nodes must come to."""
    assert finished.code == 0, finished.errors
    metrics = finished.metrics
    assert metrics["lost_nodes"] == lost
    assert [n["node"] for n in metrics["nodes"] if n["ended"] == "lost"] == lost
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert f"<td>nodes lost</td><td>{', '.join(lost)}</td>" in page
    for node in lost:
        assert f"<td>{node} (lost)</td>" in page
    after = [token for when_ns, token in _tokens(journal) if when_ns > killed_ns]
    assert len(after) > BEFORE, "generation did not go on"
    assert metrics["tokens"] == len(_tokens(journal))
    assert metrics["record_gaps"] == {}
    assert metrics["records_missing"] == {}
    marks = _check_marks(journal)
    assert metrics["degraded_causes"] == dict(sorted(marks.items()))
    assert metrics["degraded_tokens"] == sum(bool(token.degraded) for _, token in _tokens(journal))
    _check_tokens(journal)
    found = finished.replay()
    assert (found["mismatches"], found["unchecked"]) == (0, 0)
    assert found["gate_decisions"] > 0


def _seen_dead_s(journal: Journal, node: str, killed_ns: int) -> float:
    """Host seconds from the kill to the first decision that knows of it."""
    for entry in journal.entries("decision"):
        decision = msgspec.json.decode(entry.body, type=Decision)
        if not next(n for n in decision.nodes if n.node == node).alive:
            return (entry.host_ns - killed_ns) / 1e9
    raise AssertionError(f"no decision knows that {node} is gone")


def _attempts(journal: Journal) -> list[AttemptBegan]:
    return [msgspec.json.decode(entry.body, type=AttemptBegan) for entry in journal.entries("attempt")]


def _kill(running: Launched, name: str) -> int:
    """kill -9; returns when it was, on the clock of the journal."""
    running.kill(name)
    return time.monotonic_ns()


def test_a_host_is_killed(starter: Starter, journal: OpenJournal) -> None:
    running = starter.start(policies__selection__name="topk")
    running.wait_tokens(BEFORE)
    host = running.bystanders()[-1]
    killed_ns = _kill(running, host)
    finished = running.wait()
    opened = journal(finished.folder)
    _check_lost(finished, [host], killed_ns, opened)
    assert _seen_dead_s(opened, host, killed_ns) > 0.0
    assert all(host not in attempt.gateways for attempt in _attempts(opened))
    assert not any(attempt.reason for attempt in _attempts(opened)), "no generation had to begin again"


def test_two_hosts_are_killed_and_experts_with_them(starter: Starter, journal: OpenJournal) -> None:
    running = starter.start(policies__selection__name="topk")
    running.wait_tokens(BEFORE)
    hosts = running.bystanders()
    assert len(hosts) == 2
    killed_ns = min(_kill(running, host) for host in hosts)
    finished = running.wait()
    opened = journal(finished.folder)
    _check_lost(finished, hosts, killed_ns, opened)
    # Both copies of some experts are gone: the next best live expert serves instead, and every token says so.
    assert finished.metrics["degraded_causes"]["rerouted"] > BEFORE
    assert finished.metrics["rerouted_rows"] > 0
    assert not any(attempt.reason for attempt in _attempts(opened))


@pytest.mark.parametrize("piece", [0, -1], ids=["first", "last"])
def test_a_gateway_is_killed_in_mid_generation(starter: Starter, journal: OpenJournal, piece: int) -> None:
    running = starter.start()
    running.wait_tokens(BEFORE)
    gateway = running.routes()[-1][piece]
    killed_ns = _kill(running, gateway)
    finished = running.wait()
    opened = journal(finished.folder)
    _check_lost(finished, [gateway], killed_ns, opened)
    assert _seen_dead_s(opened, gateway, killed_ns) > 0.0
    again = [attempt for attempt in _attempts(opened) if attempt.reason]
    assert again
    assert sum(finished.metrics["restarts"].values()) == len(again)
    assert finished.metrics["degraded_causes"]["re-prefilled"] > 0
    last = {attempt.request: attempt for attempt in _attempts(opened)}
    assert all(gateway not in last[attempt.request].gateways for attempt in again)
    interrupted = {attempt.request for attempt in again}
    resumed = {t.request for when_ns, t in _tokens(opened) if when_ns > killed_ns and t.request in interrupted}
    assert resumed == interrupted


def test_a_gateway_whose_agent_is_started_again_keeps_nobody_waiting(starter: Starter) -> None:
    """It is online again, in another boot that knows of no run, where nobody looks for it. Others go on without it."""
    running = starter.start(orbit__duration_s=3_000)
    running.wait_tokens(BEFORE)
    gateway = running.routes()[-1][0]
    running.kill(gateway)
    running.wait_entries("status", lambda body: _said(body) == (gateway, "offline"))
    command = [sys.executable, "-m", "node_agent.cli", "run", "--config", str(running.folder / f"{gateway}.json")]
    with (running.folder / "again.log").open("wb") as log:
        agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        running.wait_entries("status", lambda body: _said(body) == (gateway, "online, again"))
        running.wait_entries("returned", lambda body: b"give it a `data_port`" in body)  # it has none: it is elsewhere
        before = len(running.routes())
        running.wait_tokens(running.count("client_token") + 100)
    finally:
        agent.kill()
        agent.wait(10.0)
    running.process.send_signal(signal.SIGINT)
    finished = running.wait(30.0)
    assert len(running.routes()) > before and all(gateway not in route for route in running.routes()[before:])
    assert finished.replay()["mismatches"] == 0


def _said(body: bytes) -> tuple[str, str]:
    """Whose status it is, and which."""
    status = json.loads(body)
    again = ", again" if status["state"] == "online" and status["epoch"] else ""  # it was commanded before
    return status["node"], status["state"] + again


def test_the_broker_is_killed(starter: Starter, journal: OpenJournal, left_over: LeftOver) -> None:
    running = starter.start()
    running.wait_tokens(BEFORE)
    killed_ns = _kill(running, "broker")
    finished = running.wait()
    assert finished.code == 0, finished.errors
    opened = journal(finished.folder)
    metrics = finished.metrics
    assert metrics["broker_restarts"] == 1
    assert (metrics["records_missing"], metrics["record_gaps"], metrics["lost_nodes"]) == ({}, {}, [])
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert "<td>broker restarts</td><td>1</td>" in page
    tokens = _tokens(opened)
    assert sum(when_ns > killed_ns for when_ns, _ in tokens) > BEFORE
    records = Counter((e.node, e.boot_id, e.seq) for e in opened.entries() if e.seq > 0)
    assert set(records.values()) == {1}
    assert metrics["records"] == len(records)
    steps = Counter((e.request, e.attempt, e.start, e.layers[0].layer) for e in _evidence(opened))
    assert set(steps.values()) == {1}
    heads = {(e.request, e.attempt, e.start + e.rows): e.token for e in _evidence(opened) if e.token >= 0}
    assert all(heads[t.request, t.attempt, t.position] == t.token for _, t in tokens)
    samples: dict[str, list[int]] = defaultdict(list)
    for entry in opened.entries("samples"):
        body = decode(entry.body, Record).body
        assert isinstance(body, SampleBatch)
        samples[entry.node] += body.mono_ns
    assert len(samples) == 4
    for times in samples.values():
        assert len(times) == len(set(times))
        ordered = sorted(times)
        assert max(b - a for a, b in itertools.pairwise(ordered)) < 1e9  # no batch of a second
    _check_tokens(opened)
    assert finished.replay()["mismatches"] == 0
    assert left_over(finished.folder) == []


def test_an_interrupt_ends_everything_in_order(starter: Starter, journal: OpenJournal, left_over: LeftOver) -> None:
    running = starter.start(orbit__duration_s=600)  # it must not end by itself before the signal comes
    running.wait_tokens(BEFORE)
    children = left_over(running.folder)
    assert len(children) == 5  # the broker and four agents
    running.process.send_signal(signal.SIGINT)
    finished = running.wait(20.0)
    assert finished.code == 130
    assert finished.errors.rstrip().endswith("interrupted")
    assert f"stopped; to go on with it: hil campaign resume {finished.folder}" in finished.errors
    assert "Traceback" not in finished.errors
    assert left_over(finished.folder) == []
    opened = journal(finished.folder)
    assert len(_tokens(opened)) >= BEFORE
    _check_tokens(opened)
    found = finished.replay()
    assert (found["mismatches"], found["unchecked"]) == (0, 0)
    assert found["ticks"] == len(list(opened.entries("decision"))) > 0


def test_an_interrupt_says_what_can_be_gone_on_with(starter: Starter, left_over: LeftOver) -> None:
    """Before the first tick nothing can; a run that is gone on with is told like any other, in words for a shell."""
    early = starter.start("too early")
    early.wait_for(early.folder / "schedule.hsched")
    early.process.send_signal(signal.SIGINT)
    finished = early.wait(30.0)
    assert finished.code == 130
    assert "stopped before its first tick" in finished.errors and "resume" not in finished.errors
    running = starter.start("in time", orbit__duration_s=600)
    running.wait_tokens(1)
    running.process.kill()
    running.process.wait(10.0)
    again = starter.resume(running.folder)
    again.wait_entries("resumed")
    again.process.send_signal(signal.SIGINT)
    finished = again.wait(30.0)
    assert finished.code == 130
    assert f"stopped; to go on with it: hil campaign resume '{running.folder}'" in finished.errors
    assert left_over(running.folder) == []


def _wait_status(pid: int, wanted: str) -> None:
    """A signal takes a moment to reach every thread."""
    deadline = time.monotonic() + 20.0
    while (found := psutil.Process(pid).status()) != wanted:
        assert time.monotonic() < deadline, f"process {pid} is {found}, wanted {wanted}"
        threading.Event().wait(0.01)


def test_a_straggler_holds_nobody_up(starter: Starter, journal: OpenJournal, left_over: LeftOver) -> None:
    running = starter.start(policies__selection__name="topk")
    running.wait_tokens(BEFORE)
    host = running.bystanders()[-1]
    running.kill(host, signal.SIGSTOP)
    stopped_ns = time.monotonic_ns()
    _wait_status(running.pid(host), psutil.STATUS_STOPPED)
    # The keep-alive of a board runs out after 7.5 s: until then the controller takes it for alive.
    running.wait_tokens(running.count("client_token") + 12, 6.0)
    assert psutil.Process(running.pid(host)).status() == psutil.STATUS_STOPPED
    threading.Event().wait(max(0.0, STOPPED_S - (time.monotonic_ns() - stopped_ns) / 1e9))
    running.kill(host, signal.SIGCONT)
    went_on_ns = time.monotonic_ns()
    finished = running.wait()
    assert finished.code == 0, finished.errors
    opened = journal(finished.folder)
    between = [t for when_ns, t in _tokens(opened) if stopped_ns < when_ns < went_on_ns]
    assert len({t.request for t in between}) > 1
    assert any(when_ns > went_on_ns for when_ns, _ in _tokens(opened))
    assert finished.metrics["lost_nodes"] == []
    assert (finished.metrics["records_missing"], finished.metrics["record_gaps"]) == ({}, {})
    energy = {node["node"]: node for node in finished.metrics["nodes"]}[host]
    assert energy["gross_j"] is None, "its samples have a hole, and no figure bridges it"
    assert "gap" in energy["energy_note"]
    assert finished.metrics["energy_gross_j"] is None
    _check_marks(opened)
    _check_tokens(opened)
    assert finished.replay()["mismatches"] == 0
    assert left_over(finished.folder) == []
