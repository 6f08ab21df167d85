"""What an agent's meter says, at a real broker: all of a window, and by one instrument."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from firmware_tools.broker_watch import BrokerWatch
from firmware_tools.meter.readings import Meters
from hil_config.errors import HardwareError
from hil_config.schema.load import load_bench
from hil_config.wire import messages as m
from hil_config.wire import topics
from hil_config.wire.provenance import Provenance, measured, modelled
from tests.conftest import Address

BENCH, METER = "agent-meter", measured("RDTech UM meter at /dev/rfcomm0, board input")


class Node:
    """An agent's word at the broker."""

    def __init__(self, broker: Address) -> None:
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def is_there(self, provenance: Provenance) -> None:
        quantities = (m.Quantity("power_w", "W", 2.0, provenance),)
        status = m.Status(node="alpha", boot_id="b", state="online", quantities=quantities)
        address = topics.address(BENCH, "alpha", topics.STATUS)
        self._client.publish(address, m.encode(status), 1, retain=True).wait_for_publish(10.0)

    def says(self, watts: float) -> None:
        summary = m.Summary(
            node="alpha", power_w=watts, temperature_c=None, cpu_percent=None, memory_mb=None, tokens=0, expert_calls=0,
            spooled=0,
        )  # fmt: skip
        self._client.publish(topics.address(BENCH, "alpha", topics.SUMMARY), m.encode(summary), 1).wait_for_publish(
            10.0
        )

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def node(broker: Address) -> Iterator[Node]:
    one = Node(broker)
    one.is_there(METER)
    yield one
    one.close()


@pytest.fixture
def watch(broker: Address) -> Iterator[BrokerWatch]:
    with BrokerWatch(BENCH, broker.host, broker.port, None) as found:
        yield found


@pytest.fixture
def meters(tmp_path: Path, watch: BrokerWatch) -> Meters:
    file = tmp_path / "bench.yaml"
    file.write_text(f"bench: {BENCH}\nboards: [{{name: alpha, profile: local-process, meter: {{via: agent}}}}]\n")
    return Meters(load_bench(file), watch)


def listening(watch: BrokerWatch, before: object) -> None:
    deadline, pause = time.monotonic() + 10.0, threading.Event()
    while watch._summaries["alpha"] is before:
        assert time.monotonic() < deadline, "nobody listens"
        pause.wait(0.01)


def test_all_of_a_long_window_is_read(node: Node, watch: BrokerWatch, meters: Meters) -> None:
    before = watch._summaries["alpha"]
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(meters.read, 100.0)
        listening(watch, before)
        for n in range(100):
            node.says(float(n))
        found = reading.result(timeout=30.0)["alpha"]
    assert found.watts == tuple(map(float, range(100))) and found.provenance == METER


def test_power_that_becomes_a_model_while_it_is_read_is_no_reading(
    node: Node, watch: BrokerWatch, meters: Meters
) -> None:
    before = watch._summaries["alpha"]
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(meters.read, 4.0)
        listening(watch, before)
        node.says(5.0)
        node.is_there(modelled("coefficients x CPU time"))  # its agent was started again, and its meter was gone
        for _ in range(3):
            node.says(2.7)
        with pytest.raises(HardwareError, match="has become modelled"):
            reading.result(timeout=30.0)
