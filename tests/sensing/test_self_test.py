"""The self-test of a board: a real shard is run, and whatever is wrong is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from firmware_tools.identity import Authority, make_command_key, write_identity
from node_agent.self_test import CHECKS, self_test
from tests.conftest import Address
from tests.sensing import boards
from tests.sensing.agents import WAIT_S, agent_file


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
    assert "verified and run on CPU: sum" in told["checks"][4]["detail"]
    assert told["checks"][4]["detail"].endswith("; trunk_00.safetensors too")


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


def test_a_runtime_that_hangs_is_a_finding_beside_the_others(
    tmp_path: Path, broker: Address, reference_shards: Path
) -> None:
    path = agent_file(tmp_path, broker, reference_shards)
    code = (
        "import sys, threading\n"
        "from node_agent import cli, self_test\n"
        "self_test.SHARD_S, self_test._try_shard = 0.5, lambda config: threading.Event().wait()\n"
        "sys.exit(cli.main(['self-test', '--config', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(path)],
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 9, done.stderr
    lines = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert lines.keys() == {name for name, _ in CHECKS}
    assert lines["shard"].startswith("FAIL") and "was not run within 0.5 s" in lines["shard"]
    assert lines["broker"].startswith("ok")


def test_an_identity_that_does_not_serve_and_a_port_that_cannot_be_had_are_findings(
    tmp_path: Path, broker: Address, reference_shards: Path
) -> None:
    tls = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "certificate", "key")}
    path = agent_file(
        tmp_path, broker, reference_shards, tls=tls, command_key=str(tmp_path / "command.pem"), data_host="203.0.113.9",
        trust={"keys": ["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]},
    )  # fmt: skip
    done = run_self_test(path, "--skip", "shard")
    assert done.returncode == 9
    lines = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert lines["identity"].startswith("FAIL") and ".pem: cannot be read" in lines["identity"]
    assert lines["port"].startswith("FAIL") and "203.0.113.9" in lines["port"]
    assert lines["broker"].startswith("FAIL")


def _found(path: Path, *skipped: str) -> dict[str, dict[str, Any]]:
    skip = [argument for name in skipped for argument in ("--skip", name)]
    return {check["name"]: check for check in json.loads(run_self_test(path, *skip, "--json").stdout)["checks"]}


def test_links_and_provider_are_tried_as_they_are_configured(tmp_path: Path, reference_shards: Path) -> None:
    nowhere, others = Address("127.0.0.1", 9), ("sensors", "broker", "port", "identity")
    log = tmp_path / "frames"
    found = _found(agent_file(tmp_path, nowhere, reference_shards, frame_log=str(log), provider="auto"), *others)
    assert found["links"] == {
        "name": "links",
        "ok": True,
        "detail": f"shaped by the agent, every frame logged in {log}",
    }
    assert found["shard"]["ok"] and not list(log.iterdir())
    wrong = agent_file(
        tmp_path, nowhere, reference_shards, frame_log="/dev/null/frames", provider="cuda", wake_latency_us=20
    )
    found = _found(wrong, *others)
    assert "/dev/null/frames" in found["links"]["detail"] and not found["links"]["ok"]
    assert "provider cuda: onnxruntime" in found["shard"]["detail"] and not found["shard"]["ok"]
    assert "cpu_dma_latency: wake_latency_us 20" in found["platform"]["detail"] and not found["platform"]["ok"]


@pytest.mark.skipif(shutil.which("tc") is None, reason="no tc here: apt-get install iproute2")
def test_an_interface_that_is_not_there_is_a_finding(tmp_path: Path, reference_shards: Path) -> None:
    path = agent_file(tmp_path, Address("127.0.0.1", 9), reference_shards, data_interface="none0")
    links = _found(path, "shard", "sensors", "broker", "port", "identity")["links"]
    assert not links["ok"] and "data interface 'none0': " in links["detail"]


def test_what_answers_and_is_no_broker_is_a_finding(tmp_path: Path, reference_shards: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = run_self_test(
            agent_file(tmp_path, Address(*silent.getsockname()), reference_shards), "--skip", "shard", "--json"
        )
    broker = next(check for check in json.loads(done.stdout)["checks"] if check["name"] == "broker")
    assert done.returncode == 9 and not broker["ok"] and "is it an MQTT broker" in broker["detail"]


def test_a_check_that_there_is_not_cannot_be_left_out(tmp_path: Path, reference_shards: Path) -> None:
    done = run_self_test(agent_file(tmp_path, Address("127.0.0.1", 9), reference_shards), "--skip", "brokr")
    assert done.returncode == 2 and "--skip brokr: no such check" in done.stderr


def test_a_spool_without_room_is_a_finding_and_nothing_is_left_there(tmp_path: Path, reference_shards: Path) -> None:
    path = agent_file(tmp_path, Address("127.0.0.1", 9), reference_shards, spool="/dev/full/spool")
    assert "FAIL  spool" in run_self_test(path, "--skip", "shard").stdout
    path = agent_file(tmp_path, Address("127.0.0.1", 9), reference_shards, max_spool_bytes=1 << 50)
    done = run_self_test(path, "--skip", "shard")
    assert "less than the 1125899907 MB of max_spool_bytes" in done.stdout
    assert not list((tmp_path / "spool").iterdir())


def test_a_certificate_of_another_board_is_a_finding(
    tmp_path: Path, reference_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A broker lets it connect and subscribe, and gives it nothing."""
    home = tmp_path_factory.mktemp("identity")
    write_identity(home, Authority.create("lab").issue("bravo"))
    tls = {name: str(home / f"{name}.pem") for name in ("ca", "certificate", "key")}
    _, public = make_command_key()
    (home / "command.pem").write_bytes(public)
    trust = {"keys": ["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]}
    for node, ok in (("bravo", True), ("alpha", False)):
        path = agent_file(
            tmp_path, Address("127.0.0.1", 9), reference_shards, tls=tls, command_key=str(home / "command.pem"),
            trust=trust, node=node,
        )  # fmt: skip
        checks = json.loads(run_self_test(path, "--skip", "shard", "--skip", "broker", "--json").stdout)["checks"]
        (identity,) = [check for check in checks if check["name"] == "identity"]
        assert identity["ok"] == ok, identity
    assert "certificate.pem is of 'bravo', node is 'alpha'" in identity["detail"]
