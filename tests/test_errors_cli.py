"""What goes wrong in front of a person: exit code, one error line that says where, one hint, no traceback."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ground_controller.core import Core
from ground_controller.fleet.mqtt import MqttFleet, NodeRefused
from ground_controller.fleet.orders import prepare_orders
from ground_controller.inbox import Inbox
from ground_controller.journal import NAME, Journal
from ground_controller.orbit.elements import DEMO_ELEMENTS
from ground_controller.preparation import prepare
from hil_config.schema.load import default_path, load_bench, load_campaign

HIL = (sys.executable, "-m", "hil_config.door")
AGENT = (sys.executable, "-m", "node_agent.cli")
POWER_MODEL = {"profile": "local-process", "idle_w": 2.7, "per_core_w": 1.0, "cores": 4, "cpu_scale": 1.0}


class Files:
    """bench.yaml and campaign.yaml of the demonstration in a folder of a test's own, to be spoiled."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bench = home / "bench.yaml"
        self.campaign = home / "campaign.yaml"
        for path in (self.bench, self.campaign):
            path.write_bytes(default_path("bench" if path == self.bench else "campaign").read_bytes())
        self.out = home / "run"

    def replace(self, path: Path, old: str, new: str) -> None:
        """Change the one place where `old` stands."""
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
        path.write_text(text.replace(old, new))

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return _hil("campaign", "run", str(self.bench), str(self.campaign), "--out", str(self.out), *options)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def _hil(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HIL, *arguments], env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=90.0, check=False,
    )  # fmt: skip


def _refused(done: subprocess.CompletedProcess[str], code: int) -> tuple[str, str]:
    """(error line, hint line) of a command that must have failed in the agreed form."""
    lines = [line.strip() for line in done.stderr.splitlines()]
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in lines if line.startswith("error:")]
    hints = [line for line in lines if line.startswith("hint:")]
    assert (len(errors), len(hints)) == (1, 1), done.stderr
    assert len(hints[0]) > len("hint: ")
    return errors[0], hints[0]


def _left(folder: Path) -> list[psutil.Process]:
    """Agents and brokers of a run folder that still run."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(f"{folder}/" in word for word in process.info["cmdline"] or ())
    ]


def test_a_wrong_key(files: Files) -> None:
    files.replace(files.campaign, "  concurrency: 6", "  concurency: 6")
    text = files.campaign.read_text()
    line = text[: text.index("concurency")].count("\n") + 1
    error, hint = _refused(files.run(), 3)
    assert f"{files.campaign}:{line}:3" in error
    assert "concurency" in error
    assert "concurrency" in error + hint
    assert not files.out.exists()


def test_a_cut_element_line(files: Files) -> None:
    lines = DEMO_ELEMENTS.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if "STARLINK-2617" in line) + 2
    assert lines[at].startswith("2 ")
    lines[at] = lines[at][:40]
    cut = files.home / "cut.tle"
    cut.write_text("\n".join(lines) + "\n")
    files.replace(files.campaign, "elements: demo ", "elements: cut.tle ")
    error, _ = _refused(files.run(), 4)
    assert f"{cut}:{at + 1}:" in error
    assert "40 characters, wanted 69" in error
    assert not files.out.exists()


def _flip(path: Path) -> tuple[str, str]:
    """Flip one bit in the middle; returns the SHA-256 before and after."""
    data = bytearray(path.read_bytes())
    before = hashlib.sha256(data).hexdigest()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return before, hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this test's own, with the shards of the reference model where a run looks for them."""
    cache = tmp_path_factory.mktemp("cache")
    out = cache / "spacemoe-hil" / "models" / "checkpoint-int8"
    done = _hil("models", "build", "--out", str(out), XDG_CACHE_HOME=str(cache))
    assert done.returncode == 0, done.stderr
    return cache


@pytest.fixture
def shards(built: Path, tmp_path: Path) -> Path:
    """A copy to be spoiled."""
    return Path(shutil.copytree(built / "spacemoe-hil" / "models" / "checkpoint-int8", tmp_path / "shards"))


def test_a_flipped_byte_in_a_shard(shards: Path) -> None:
    spoiled = shards / "expert_02_05_int8.safetensors"
    before, after = _flip(spoiled)
    error, _ = _refused(_hil("models", "verify", str(shards)), 5)
    assert str(spoiled) in error
    assert before in error
    assert after in error


def _agent_file(folder: Path, shards: Path, port: int, **changes: object) -> Path:
    path = folder / "agent.json"
    config = {
        "node": "alpha", "bench": "errors", "broker_host": "127.0.0.1", "broker_port": port,
        "data_host": "127.0.0.1", "data_port": 0, "shards": str(shards), "spool": str(folder / "spool"),
        "power_model": POWER_MODEL, **changes,
    }  # fmt: skip
    path.write_text(json.dumps(config))
    return path


def _agent(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AGENT, "run", "--config", str(config)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60.0, check=False,
    )  # fmt: skip


def test_an_agent_without_its_broker(shards: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    error, _ = _refused(_agent(_agent_file(tmp_path, shards, port)), 7)
    assert f"127.0.0.1:{port}" in error


def test_an_agent_whose_data_port_is_taken(shards: Path, tmp_path: Path, taken_port: int) -> None:
    error, hint = _refused(_agent(_agent_file(tmp_path, shards, 1, data_port=taken_port)), 9)
    assert f"127.0.0.1:{taken_port}" in error
    assert f"ss -ltnp 'sport = :{taken_port}'" in hint


def test_an_agent_whose_manifest_is_cut(shards: Path, tmp_path: Path) -> None:
    manifest = shards / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    error, _ = _refused(_agent(_agent_file(tmp_path, shards, 1)), 5)
    assert str(manifest) in error


def test_an_agent_refuses_a_run_with_a_flipped_shard(
    shards: Path, built: Path, tmp_path: Path, broker: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(built))
    prepared = prepare(load_bench(default_path("bench")), load_campaign(default_path("campaign")))
    first = Core(prepared.setting, prepared.policy, 1, 5.0).advance(-1, 0.0, []).plan
    held = next(e for e, hosts in enumerate(prepared.placement.holders[1]) if 0 in hosts)
    spoiled = shards / f"expert_01_{held:02d}_int8.safetensors"
    before, after = _flip(spoiled)
    config = _agent_file(tmp_path, shards, broker[1])
    with (tmp_path / "agent.log").open("wb") as log:
        process = subprocess.Popen(
            [*AGENT, "run", "--config", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    fleet = MqttFleet("errors", 1, Inbox())
    try:
        fleet.start("127.0.0.1", broker[1])
        fleet.wait_online(("alpha",), 20.0)
        addresses = dict.fromkeys(prepared.setting.nodes, fleet.statuses["alpha"].data_address)
        orders = prepare_orders(prepared, "run", addresses, "127.0.0.1:1", first)
        with pytest.raises(NodeRefused) as refusal:
            fleet.order(("alpha",), orders, 30.0)
        assert process.poll() is None, "a refusal is no reason to end"
    finally:
        fleet.stop()
        process.terminate()
        assert process.wait(15.0) == 0
    assert refusal.value.exit_code == 5
    for part in ("node alpha", str(spoiled), before, after):
        assert part in refusal.value.message
    assert "hil models build" in refusal.value.hint


def test_a_taken_broker_port(files: Files, taken_port: int) -> None:
    files.replace(files.bench, "  port: 0 ", f"  port: {taken_port} ")
    error, hint = _refused(files.run(), 9)
    assert f"127.0.0.1:{taken_port}" in error
    assert "broker" in error
    assert f"ss -ltnp 'sport = :{taken_port}'" in hint
    assert _left(files.out) == []


@pytest.mark.usefixtures("broker")  # skips where there is no Mosquitto; the run has one of its own
def test_a_taken_data_port(files: Files, taken_port: int) -> None:
    files.replace(files.bench, "  - name: charlie\n", f"  - name: charlie\n    data_port: {taken_port}\n")
    error, hint = _refused(files.run(), 9)
    assert f"127.0.0.1:{taken_port}" in error
    assert "board charlie" in error
    assert f"ss -ltnp 'sport = :{taken_port}'" in hint
    deadline = time.monotonic() + 5.0
    while _left(files.out) and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    assert _left(files.out) == []


def test_an_unknown_policy(files: Files) -> None:
    error, hint = _refused(files.run("--policy", "nearest"), 3)
    assert "'nearest'" in error
    assert "lyapunov, myopic_solar" in hint
    files.replace(files.campaign, "name: lyapunov ", "name: lyapunow ")
    error, hint = _refused(files.run(), 3)
    assert "'lyapunow'" in error
    assert "lyapunov, myopic_solar" in hint
    assert not files.out.exists()


def test_an_unknown_profile(files: Files) -> None:
    old = "  - name: delta\n    profile: local-process"
    files.replace(files.bench, old, old.replace("local-process", "raspbery-pi-5"))
    line = files.bench.read_text().split("raspbery")[0].count("\n") + 1
    error, hint = _refused(files.run(), 3)
    assert f"{files.bench}:{line}:14" in error
    assert "did you mean raspberry-pi-5?" in error
    assert "raspberry-pi-4b" in hint


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[{"domain": "code", "text": "def f("}', "truncated"),
        ('[{"domain": "code"}]', "text"),
        ('[{"domain": "code", "text": ""}]', "empty"),
        ("[]", "no prompts"),
    ],
    ids=["cut", "a key is missing", "empty", "none"],
)
def test_malformed_prompts(files: Files, text: str, found: str) -> None:
    prompts = files.home / "prompts.json"
    prompts.write_text(text)
    files.replace(files.campaign, "prompts: reference ", "prompts: prompts.json ")
    error, hint = _refused(files.run(), 4)
    assert str(prompts) in error
    assert found in error
    assert '"domain"' in hint
    assert not files.out.exists()


def test_a_run_folder_that_is_taken(files: Files) -> None:
    Journal.create(files.out).close()
    before = (files.out / NAME).read_bytes()
    error, hint = _refused(files.run(), 9)
    assert str(files.out) in error
    assert "--out" in hint
    assert (files.out / NAME).read_bytes() == before


@pytest.mark.parametrize("words", [("campaign", "replay"), ("report",), ("export",)], ids=" ".join)
def test_a_folder_without_a_journal(tmp_path: Path, words: tuple[str, ...]) -> None:
    error, _ = _refused(_hil(*words, str(tmp_path)), 10)
    assert re.search(rf"{tmp_path}: .*{NAME}", error)
    assert list(tmp_path.iterdir()) == []
