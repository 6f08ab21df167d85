"""The agent as a service: real processes, a supervisor's socket, a real broker, crashes, and a canary for secrets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firmware_tools.identity import Authority, make_command_key, write_identity
from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.inbox import Inbox
from hil_config.tls import identity_files
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.orders import Ping, Prepare, SetLogLevel, SetPower
from hil_config.wire.plan import SelectionPlan
from node_agent.log import HIDDEN, conceal, redact
from node_agent.notify import notify, watchdog_s
from node_agent.self_test import CHECKS, self_test
from node_agent.starts import LOOP, WITHIN_S, Starts
from tests.conftest import Address
from tests.sensing import boards

WAIT_S = 60.0
UNITS = Path(__file__).parents[2] / "node_agent" / "systemd"


def agent_file(folder: Path, broker: Address, shards: Path, **changes: Any) -> Path:
    fields = {
        "node": "alpha", "bench": folder.name.replace("_", "-"), "broker_host": broker.host,
        "broker_port": broker.port, "data_host": "127.0.0.1", "data_port": 0, "shards": str(shards),
        "spool": str(folder / "spool"), "sysfs_root": str(folder / "tree"),
        "power_model": {"profile": "raspberry-pi-4b", "idle_w": 2.7, "per_core_w": 0.925, "cores": 4, "cpu_scale": 4.0},
        **changes,
    }  # fmt: skip
    path = folder / "agent.json"
    path.write_text(json.dumps(fields))
    return path


class Supervisor:
    """The end of NOTIFY_SOCKET that systemd has: it hears what the service says."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(WAIT_S)
        self.heard: list[str] = []

    def wait_for(self, line: str) -> None:
        while line not in self.heard:
            self.heard += self._socket.recv(4096).decode().splitlines()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    made.close()


def start(path: Path, supervisor: Supervisor, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "node_agent.cli", "run", "--config", str(path)], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "NOTIFY_SOCKET": supervisor.path, "WATCHDOG_USEC": "600000", **environment},
    )  # fmt: skip


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
    process.send_signal(number)
    _, errors = process.communicate(timeout=WAIT_S)
    return errors


def bench_of(path: Path) -> str:
    return str(json.loads(path.read_text())["bench"])


def ask(path: Path, broker: Address, body: Any) -> m.CommandReply:
    """One command to the agent of `path`, as the controller sends it."""
    fleet = MqttFleet(bench_of(path), 5, Inbox())
    fleet.start(broker.host, broker.port)
    try:
        fleet.wait_online(("alpha",), WAIT_S)
        return fleet.ask(("alpha",), {"alpha": body}, WAIT_S)["alpha"]
    finally:
        fleet.stop()


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


# --- self-test --------------------------------------------------------------------------------------------------


def run_self_test(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node_agent.cli", "self-test", "--config", str(path), *arguments],
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip


def test_self_test_runs_a_real_shard(tmp_path: Path, broker: Address, reference_shards: Path) -> None:
    boards.pi_4(tmp_path / "tree")
    done = run_self_test(agent_file(tmp_path, broker, reference_shards), "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["ok"], told
    assert [check["name"] for check in told["checks"]] == [name for name, _ in CHECKS]
    assert "verified and run: sum" in told["checks"][4]["detail"]


def test_self_test_tells_everything_that_is_wrong(tmp_path: Path, reference_shards: Path) -> None:
    broken = tmp_path / "shards"
    shutil.copytree(reference_shards, broken)
    for shard in broken.glob("*expert*"):
        shard.write_bytes(shard.read_bytes()[:-1])
    path = agent_file(tmp_path, Address("127.0.0.1", 9), broken, spool="/proc/none")
    done = run_self_test(path)
    assert done.returncode == 9
    lines = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert lines["platform"].startswith("ok") and lines["clock"].startswith("ok")
    assert all(lines[name].startswith("FAIL") for name in ("spool", "shard", "broker"))
    assert str(broken) in lines["shard"] and "127.0.0.1:9" in lines["broker"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_runtime_that_ends_its_process_is_a_finding(
    tmp_path: Path, broker: Address, reference_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from node_agent import self_test as module
    from node_agent.config import read_config

    def crash(config: object) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    monkeypatch.setattr(module, "_try_shard", crash)
    config = read_config(agent_file(tmp_path, broker, reference_shards))
    skip = frozenset(name for name, _ in CHECKS) - {"shard"}
    (check,) = self_test(config, skip)
    assert not check.ok and "signal 9" in check.detail


# --- systemd ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["hil-agent.service", "hil-agent-jetson.service"])
def test_units_are_hardened(unit: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze here (package systemd)")
    text = (UNITS / unit).read_text()
    (tmp_path / unit).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = subprocess.run(
        [program, "security", "--offline=true", "--threshold=20", "--no-pager", str(tmp_path / unit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "Unknown option" in done.stderr or "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file (before version 250)")
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert level is not None and float(level[1]) <= 2.0
    checked = subprocess.run(
        [program, "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True, timeout=60, check=False
    )
    complaints = [line for line in checked.stderr.splitlines() if unit in line]
    assert not complaints, complaints


def test_the_printed_unit_is_the_one_that_is_tested() -> None:
    for arguments, name in (
        ([], "hil-agent.service"), (["--jetson"], "hil-agent-jetson.service"),
        (["--tmpfiles"], "hil-agent.tmpfiles.conf"),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "node_agent.cli", "unit", *arguments], capture_output=True, text=True, check=True
        )
        assert done.stdout == (UNITS / name).read_text()


# --- secrets ----------------------------------------------------------------------------------------------------

CANARY = "c4n4ry-Zq8Wm2Lx7Tn5"
PEM = f"-----BEGIN EC PRIVATE KEY-----\n{CANARY}\n-----END EC PRIVATE KEY-----"


@pytest.mark.parametrize(
    "line",
    [
        f"connect failed: password={CANARY}", f'{{"token": "{CANARY}", "n": 1}}', f"Authorization: Bearer {CANARY}",
        f"api_key = '{CANARY}'", f"broker-secret:{CANARY};x", PEM,
        f"-----BEGIN PRIVATE KEY-----\n{CANARY} and the rest was cut",
    ],
)  # fmt: skip
def test_what_looks_secret_is_hidden(line: str) -> None:
    assert CANARY not in redact(line) and HIDDEN in redact(line)


def test_what_is_known_to_be_secret_is_hidden_and_the_rest_is_not() -> None:
    conceal(CANARY, "abc")
    assert redact(f"half {CANARY}, token 17 of 24, abc") == f"half {HIDDEN}, token 17 of 24, abc"


def test_a_private_key_is_nowhere_but_in_its_file(
    tmp_path: Path, reference_shards: Path, supervisor: Supervisor
) -> None:
    """argv, environment, log, traceback and spool of an agent with TLS whose broker does not speak TLS."""
    write_identity(tmp_path / "identity", Authority.create("lab").issue("alpha"))
    files = identity_files(tmp_path / "identity")
    secrets = [line for line in Path(files.key).read_text().splitlines() if line and "-----" not in line]
    assert secrets
    server = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []
    thread = threading.Thread(target=lambda: taken.append(server.accept()[0]), daemon=True)
    thread.start()
    private, public = make_command_key()
    secrets += [line for line in private.decode().splitlines() if line and "-----" not in line]
    (tmp_path / "command.pem").write_bytes(public)
    told = {"tls": msgspec.to_builtins(files), "command_key": str(tmp_path / "command.pem")}
    path = agent_file(tmp_path, Address("127.0.0.1", server.getsockname()[1]), reference_shards, **told)
    process = start(path, supervisor)
    seen = b"".join((Path("/proc") / str(process.pid) / name).read_bytes() for name in ("cmdline", "environ"))
    thread.join(WAIT_S)
    for one in taken:
        one.sendall(b"not TLS at all")
        one.close()
    server.close()
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 7 and "error: broker" in errors
    seen += errors.encode() + b"".join(p.read_bytes() for p in (tmp_path / "spool").rglob("*") if p.is_file())
    assert not [secret for secret in secrets if secret.encode() in seen]
