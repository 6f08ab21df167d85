"""Quick wake-ups are asked for as long as the agent runs, and what was asked for is said."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.inbox import Inbox
from hil_config.errors import EnvironmentFault
from node_agent.wake_latency import AS_IT_IS, DEVICE, hold
from tests.conftest import Address
from tests.sensing.agents import WAIT_S, Supervisor, agent_file, bench_of, end, start

REAL = Path("/") / DEVICE


def _kernel_us() -> int:
    """What the kernel goes by now."""
    with REAL.open("rb", buffering=0) as file:
        (value,) = struct.unpack("=i", file.read(4))
    return int(value)


@pytest.mark.skipif(not os.access(REAL, os.R_OK | os.W_OK), reason=f"{REAL}: not there, or for root alone")
def test_the_kernel_keeps_to_it_until_it_is_let_go() -> None:
    before = _kernel_us()
    wanted = min(before, 900) - 1
    held = hold(Path("/"), wanted)
    try:
        assert _kernel_us() == wanted and held.facts == {"power:wake_latency_us": str(wanted)}
    finally:
        held.close()
        held.close()
    assert _kernel_us() == before


def test_nothing_is_asked_for_unless_it_is_configured(tmp_path: Path) -> None:
    held = hold(tmp_path, AS_IT_IS)
    held.close()
    assert held.facts == {}


def test_a_board_that_cannot_says_which_file_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"cpu_dma_latency: wake_latency_us 20 cannot be asked for: No such"):
        hold(tmp_path, 20)
    (tmp_path / DEVICE).parent.mkdir()
    (tmp_path / DEVICE).symlink_to("/dev/full")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(EnvironmentFault, match="No space left on device") as caught:
        hold(tmp_path, 20)
    assert "hil-agent install" in caught.value.hint and len(os.listdir("/proc/self/fd")) == before


def test_an_agent_asks_and_its_status_says_so(
    tmp_path: Path, broker: Address, reference_shards: Path, supervisor: Supervisor
) -> None:
    file = tmp_path / "tree" / DEVICE
    file.parent.mkdir(parents=True)
    file.touch()
    path = agent_file(tmp_path, broker, reference_shards, wake_latency_us=20)
    process = start(path, supervisor)
    fleet = MqttFleet(bench_of(path), 1, Inbox())
    fleet.start(broker.host, broker.port)
    try:
        supervisor.wait_for("READY=1")
        fleet.wait_online(("alpha",), WAIT_S)
        assert fleet.statuses["alpha"].facts["power:wake_latency_us"] == "20"
        assert struct.unpack("=i", file.read_bytes()) == (20,)
    finally:
        fleet.stop()
        end(process)
