"""A file that no agent can be run with is refused with the field, its value and what was wanted; nothing is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hil_config.errors import ConfigError
from node_agent.config import AgentConfig, read_config
from node_agent.starts import Starts, state_folder
from tests.conftest import Address
from tests.sensing.agents import agent_file

POWER = {"profile": "p", "idle_w": 1.0, "per_core_w": 1.0, "cores": 4, "cpu_scale": 1.0}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"broker_port": -1}, "broker_port -1, wanted 1 to 65535"),
        ({"broker_port": 99999}, "broker_port 99999"),
        ({"data_port": 99999}, "data_port 99999, wanted 0 to 65535"),
        ({"node": "../../outside"}, "node '../../outside', wanted letters, digits, - and _"),
        ({"node": "a\0b"}, r"node 'a\\x00b', wanted letters"),
        ({"bench": "a/#"}, "bench 'a/#', wanted letters"),
        ({"command_key": "a\0b"}, r"command_key 'a\\x00b', wanted text without a null byte"),
        ({"spool": ""}, "spool '', wanted a folder"),
        ({"log_level": "foo"}, "log_level 'foo', wanted one of debug, info, warning, error"),
        ({"sample_hz": 0.0}, "sample_hz 0.0, wanted 0.1 to 1000"),
        ({"keepalive_s": 0}, "keepalive_s 0, wanted 1 to 600"),
        ({"max_spool_bytes": -1}, "max_spool_bytes -1, wanted 4096"),
        ({"trunk_threads": -1}, "trunk_threads -1, wanted 0 to 256"),
        ({"head_threads": 10_000}, "head_threads 10000"),
        ({"shard_budget_bytes": -5}, "shard_budget_bytes -5"),
        ({"cuda_arena_bytes": -5}, "cuda_arena_bytes -5"),
        ({"wake_latency_us": -2}, "wake_latency_us -2, wanted -1 to 100000"),
        ({"power_model": {**POWER, "cores": 0}}, "power_model.cores 0, wanted 1 to 4096"),
        ({"power_model": {**POWER, "idle_w": -1.0}}, "power_model.idle_w -1.0"),
        ({"power_model": {**POWER, "per_core_w": 1e9}}, "power_model.per_core_w 1000000000.0"),
        ({"power_model": {**POWER, "cpu_scale": 0.0}}, "power_model.cpu_scale 0.0"),
        ({"safety": {"eased_duty": 0.0}}, "safety.eased_duty 0.0, wanted 0.01 to 1"),
        ({"safety": {"die_stop_c": 80.0}}, "safety.die_resume_c 0, wanted above 0"),
        ({"sensors": [{"driver": "process", "hz": -1.0}]}, r"sensors\[0\] \(-1.0, 0.0\), wanted hz 0 to 1000"),
        ({"tls": {"ca": "", "certificate": "c", "key": "k"}, "command_key": "k"}, "tls.ca '', wanted a file"),
        ({"tls": {"ca": "a", "certificate": "c", "key": "k"}}, "tls without command_key"),
        ({"broker_host": "10.0.0.1"}, "broker_host '10.0.0.1': without TLS"),
        ({"nowhere": 1}, "unknown field `nowhere`"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_that_cannot_be_is_named(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    path = agent_file(tmp_path, Address("127.0.0.1", 1883), tmp_path / "shards", **changes)
    with pytest.raises(ConfigError, match=told) as caught:
        read_config(path)
    assert caught.value.message.startswith(f"{path}: ") and caught.value.hint
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"node": "a",\n "bench": nix}', r"\(line 2, column 15\)"),
        ('{"node": "a",\n "bench": "b"', r"truncated \(line 2, column 14\)"),
        ("[]", "Expected `object`"),
        ("", r"truncated \(line 1, column 1\)"),
    ],
)
def test_a_fault_in_the_json_has_its_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "agent.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_config(path)


def test_a_file_that_is_not_there_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "none.json")
    assert "docs/reference/agent-file.md" in caught.value.hint


def test_the_reference_names_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/agent-file.md").read_text()
    table = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert {field for field in AgentConfig.__struct_fields__ if f"`{field}`" not in table} == set()


def test_a_refused_file_is_no_crash(tmp_path: Path) -> None:
    """Four mistakes in a row, and the mended board serves: safe mode is for what dies while it serves."""
    path = agent_file(tmp_path, Address("127.0.0.1", 1883), tmp_path / "shards", data_port=99999)
    command = [sys.executable, "-m", "node_agent.cli", "run", "--config", str(path)]
    for _ in range(4):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)
        assert done.returncode == 3 and "Traceback" not in done.stderr, done.stderr
    mended = read_config(agent_file(tmp_path, Address("127.0.0.1", 1883), tmp_path / "shards"))
    assert Starts(state_folder(mended)).crashes == 0


def test_a_record_of_starts_that_is_garbage_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "starts").write_bytes(b"\xff\x00 garbage \xfe")
    assert Starts(tmp_path).crashes == 0
    assert len((tmp_path / "starts").read_text().splitlines()) == 1, "and is written anew"
