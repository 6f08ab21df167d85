"""What the ground says and a node cannot do ends neither its connection nor, unseen, its hearing."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import msgspec
import pytest

from ground_controller.fleet.mqtt import MqttFleet
from ground_controller.inbox import Inbox
from hil_config.epoch_file import EpochFile
from hil_config.errors import UsageError
from hil_config.wire import messages as m
from hil_config.wire import topics
from node_agent.config import AgentConfig, PowerModel
from node_agent.log import LOG
from node_agent.mqtt_link import MqttLink
from tests.conftest import Address
from tests.sensing.agents import WAIT_S

BENCH = "orders"
BACKWARDS = m.ClockAnchor(epoch=1, boot_id="b", mono_ns=1, scenario_s=0.0, rate=-1.0)
MARK = m.Watermark(node="alpha", boot_id="b", seq=3)


def link_of(folder: Path, broker: Address, take: Any) -> MqttLink:
    model = PowerModel("none", 1.0, 1.0, 1, 1.0)
    config = AgentConfig("alpha", BENCH, broker.host, broker.port, "127.0.0.1", 0, "", str(folder), model)
    status = m.Status(node="alpha", boot_id="b", state="online")
    return MqttLink(config, "b", lambda: status, take, EpochFile(folder / "epoch"))


def deaf(folder: str, host: str, port: str) -> None:
    """The program of a node whose code has a fault in what it does with a watermark."""

    def take(row: object, message: object) -> None:
        raise KeyError("a fault of ours")

    link = link_of(Path(folder), Address(host, int(port)), take)
    link.start()
    Queue[None]().get(timeout=WAIT_S)  # nobody says anything: the process must end by itself


@pytest.fixture
def ground(broker: Address) -> Any:
    fleet = MqttFleet(BENCH, 1, Inbox())
    fleet.start(broker.host, broker.port)
    yield fleet
    fleet.stop()


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Lines of the agent's log."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    LOG.addHandler(handler)
    yield lines
    LOG.removeHandler(handler)


def test_an_order_that_cannot_be_obeyed_is_logged_and_the_next_one_heard(
    tmp_path: Path, broker: Address, ground: MqttFleet, told: list[str]
) -> None:
    taken: Queue[msgspec.Struct] = Queue()

    def take(row: object, message: msgspec.Struct) -> None:
        if isinstance(message, m.ClockAnchor):
            raise UsageError(f"clock rate {message.rate}: must be 0 (paused) or above")
        taken.put(message)

    link = link_of(tmp_path, broker, take)
    link.start()
    try:
        ground.wait_online(("alpha",), WAIT_S)
        ground.publish("alpha", topics.CLOCK, BACKWARDS)
        ground.publish("alpha", topics.WATERMARK, MARK)
        assert taken.get(timeout=WAIT_S) == MARK
        assert link.bad_messages == 1 and "not taken: clock rate -1.0: must be 0 (paused) or above" in told
    finally:
        link.stop()


def test_a_fault_of_ours_ends_the_process_instead_of_its_hearing(
    tmp_path: Path, broker: Address, ground: MqttFleet
) -> None:
    code = (
        f"from tests.sensing.test_orders_taken import deaf; deaf({str(tmp_path)!r}, {broker.host!r}, '{broker.port}')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        ground.wait_online(("alpha",), WAIT_S)
        ground.publish("alpha", topics.WATERMARK, MARK)
        _, errors = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert process.returncode == 70 and "KeyError: 'a fault of ours'" in errors and "thread mqtt died" in errors
