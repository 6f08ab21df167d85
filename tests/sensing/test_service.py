"""The agent as a service: real processes, a supervisor's socket, a real broker, crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.inbox import Inbox
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.orders import Ping, Prepare, SetLogLevel, SetPower
from hil_config.wire.plan import SelectionPlan
from node_agent.notify import notify, watchdog_s
from node_agent.starts import LOOP, WITHIN_S, Starts
from tests.conftest import Address
from tests.sensing.agents import WAIT_S, Supervisor, agent_file, ask, bench_of, end, start

PREPARE = Prepare(
    run="r", peers=(), manifest_sha256="", trunk_layers=(), experts=(), schedule=b"", schedule_sha256="",
    satellites={}, delay_scale=1.0, hidden_codec="fp32", expert_timeout_s=1.0,
    plan=SelectionPlan(1, 1, 0.0, 1.0, "topk", "", 1.0, 1.0, 1, 1, 0.0, (), (), ()),
)  # fmt: skip


def test_ready_watchdog_and_a_clean_stop(
    tmp_path: Path, broker: Address, reference_shards: Path, supervisor: Supervisor
) -> None:
    path = agent_file(tmp_path, broker, reference_shards)
    process = start(path, supervisor)
    supervisor.wait_for("READY=1")
    supervisor.wait_for("WATCHDOG=1")
    assert ask(path, broker, SetLogLevel("debug")).ok
    reply = ask(path, broker, SetPower(duty=0.5))
    assert reply.ok
    refused = ask(path, broker, SetPower(cpu_khz=1))
    assert not refused.ok and "this board cannot set that" in refused.error and refused.exit_code == 2
    ping = ask(path, broker, Ping())
    assert 0 < ping.received_mono_ns <= ping.mono_ns, "four timestamps"
    errors = end(process)
    supervisor.wait_for("STOPPING=1")
    assert process.returncode == 0 and "did not stop in time" not in errors
    assert not (tmp_path / "spool/alpha.state/starts").exists(), "a clean stop leaves no crash behind"


def test_a_controller_of_an_earlier_epoch_is_not_obeyed(
    tmp_path: Path, broker: Address, reference_shards: Path, supervisor: Supervisor
) -> None:
    path = agent_file(tmp_path, broker, reference_shards)
    process = start(path, supervisor)
    supervisor.wait_for("READY=1")
    assert ask(path, broker, SetLogLevel("info")).ok  # of epoch 5
    inbox = Inbox()
    fleet = MqttFleet(bench_of(path), 4, inbox)
    fleet.start(broker.host, broker.port)
    try:
        fleet.wait_online(("alpha",), WAIT_S)
        boot_id = fleet.statuses["alpha"].boot_id
        # "All that you will ever say is committed": were it believed, the node would forget its first record.
        fleet.publish("alpha", topics.WATERMARK, m.Watermark(node="alpha", boot_id=boot_id, seq=10**6, epoch=4))
        refused = fleet.ask(("alpha",), {"alpha": SetLogLevel("debug")}, WAIT_S)["alpha"]
        assert not refused.ok and refused.error == "epoch 4 is over, 5 is in command"
        inbox.drain()
        deadline, pause = time.monotonic() + WAIT_S, threading.Event()
        while 1 not in {arrival.seq for arrival in inbox.drain() if arrival.boot_id == boot_id}:
            assert time.monotonic() < deadline, "the node's first record does not come again"
            pause.wait(0.05)
        supervisor.heard.clear()
        end(process, signal.SIGKILL)
        process = start(path, supervisor)
        supervisor.wait_for("READY=1")
        deadline = time.monotonic() + WAIT_S
        while fleet.statuses["alpha"].boot_id == boot_id or fleet.statuses["alpha"].state == "offline":
            assert time.monotonic() < deadline, "the agent does not come back"
            pause.wait(0.05)
        assert fleet.statuses["alpha"].epoch == 5, "a restart does not forget who is in command"
        refused = fleet.ask(("alpha",), {"alpha": SetLogLevel("debug")}, WAIT_S)["alpha"]
        assert not refused.ok and refused.exit_code == 11
    finally:
        fleet.stop()
        end(process)


TOLD_AGAIN = """
import os, signal, sys, threading
from node_agent.cli import main

def set_and_told_again(event):
    with event._cond:  # as threading.Event does it, and a signal comes just now
        event._flag = True
        if sys._getframe(1).f_code.co_name == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
        event._cond.notify_all()

threading.Event.set = set_and_told_again
sys.exit(main())
"""


def test_a_signal_in_the_middle_of_stopping_holds_nothing_up(
    tmp_path: Path, broker: Address, reference_shards: Path, supervisor: Supervisor
) -> None:
    path = agent_file(tmp_path, broker, reference_shards)
    process = subprocess.Popen(
        [sys.executable, "-c", TOLD_AGAIN, "run", "--config", str(path)], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "NOTIFY_SOCKET": supervisor.path},
    )  # fmt: skip
    try:
        supervisor.wait_for("READY=1")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert process.returncode == 0, errors


def test_a_crash_loop_ends_in_safe_mode_with_telemetry_only(
    tmp_path: Path, broker: Address, reference_shards: Path, supervisor: Supervisor
) -> None:
    path = agent_file(tmp_path, broker, reference_shards)
    for _ in range(LOOP):
        process = start(path, supervisor)
        supervisor.wait_for("READY=1")
        supervisor.heard.clear()
        end(process, signal.SIGKILL)
    process = start(path, supervisor)
    supervisor.wait_for("READY=1")
    reply = ask(path, broker, PREPARE)
    assert not reply.ok and reply.exit_code == 11 and f"after {LOOP} crashes" in reply.error
    assert ask(path, broker, Ping()).ok
    errors = end(process)
    assert "safe mode" in errors and process.returncode == 0
    process = start(path, supervisor)
    supervisor.heard.clear()
    supervisor.wait_for("READY=1")
    assert ask(path, broker, PREPARE).exit_code != 11, "after a clean stop it serves again"
    end(process)


def test_an_error_with_a_name_is_no_crash(tmp_path: Path) -> None:
    for _ in range(LOOP + 1):
        starts = Starts(tmp_path)
        assert not starts.safe_mode
        starts.was_refused()


def test_crashes_of_long_ago_and_of_another_boot_do_not_count(tmp_path: Path) -> None:
    for _ in range(LOOP):
        Starts(tmp_path)
    rows = [line.split() for line in (tmp_path / "starts").read_text().splitlines()]
    (tmp_path / "starts").write_text("".join(f"another-boot {at_s}\n" for _, at_s in rows) + "torn li")
    assert not Starts(tmp_path).safe_mode
    (tmp_path / "starts").write_text("".join(f"{boot} {float(at_s) - WITHIN_S:.3f}\n" for boot, at_s in rows))
    assert not Starts(tmp_path).safe_mode


def test_nobody_supervises(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    assert not notify("READY=1") and watchdog_s() == 0.0
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert not notify("READY=1") and watchdog_s() == 60.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_s() == 0.0, "meant for another process"
