"""Agents reduced to their telemetry: the real spool, publisher and MQTT connection, and a synthetic sensor.

As a program: `python -m benchmarks.light_agents FOLDER BROKER_PORT FIRST COUNT HZ RECORDS` starts COUNT of them in one
process, each of which writes RECORDS records at HZ, waits until the ground has them all, and prints one line of JSON:
its processor seconds up to the last connection and from there on, and what the agents have numbered.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hil_config.epoch_file import EpochFile
from hil_config.wire.messages import SampleBatch, Status, Watermark
from node_agent.config import AgentConfig, PowerModel
from node_agent.crew import Crew
from node_agent.evidence import Evidence, left_spools, open_spool
from node_agent.mqtt_link import MqttLink

BENCH = "load"
DRAIN_S = 120.0


class LightAgent:
    """One node without serving and sensors. `boot` names this start of it."""

    def __init__(self, folder: Path, port: int, node: str, boot: str, crew: Crew) -> None:
        power = PowerModel("none", 1.0, 1.0, 1, 1.0)
        config = AgentConfig(node, BENCH, "127.0.0.1", port, "127.0.0.1", 0, "", str(folder), power)
        self.node, self.boot = node, boot
        left = left_spools(folder, node, boot, 64 << 20)
        self.spool = open_spool(folder, node, boot, 64 << 20)
        self.link = MqttLink(config, boot, self.status, self._take, EpochFile(folder / f"{node}.epoch"))
        self.evidence = Evidence(node, boot, self.spool, self.link, left)
        self.link.start()
        crew.start(f"evidence-{node}", lambda: self.evidence.work(crew))

    def status(self) -> Status:
        """What it says of itself."""
        return Status(node=self.node, boot_id=self.boot, state="online")

    def _take(self, row: object, message: Any) -> None:
        if isinstance(message, Watermark):
            self.evidence.committed(message)

    def sample(self) -> None:
        """One record: a reading of four columns."""
        columns: dict[str, tuple[float | None, ...]] = {
            "power_w": (4.888,), "temperature_c": (48.25,), "cpu_percent": (12.5,), "memory_mb": (92.0,),
        }  # fmt: skip
        self.evidence.put(SampleBatch((time.monotonic_ns(),), columns))


def run(folder: Path, port: int, first: int, count: int, hz: float, records: int) -> dict[str, Any]:
    """Drive `count` agents to the end of their records and drain them."""
    crew = Crew()
    agents = [LightAgent(folder, port, f"n{first + i}", f"b{os.getpid()}", crew) for i in range(count)]
    pause = threading.Event()
    for agent in agents:
        agent.link.connected.wait(DRAIN_S)
    started_s = time.process_time()
    due_s = time.monotonic()
    for _ in range(records):
        pause.wait(max(0.0, due_s - time.monotonic()))
        for agent in agents:
            agent.sample()
        due_s += 1.0 / hz
    deadline = time.monotonic() + DRAIN_S
    while any(agent.evidence.waiting for agent in agents) and time.monotonic() < deadline:
        pause.wait(0.1)
    left = sum(agent.evidence.waiting for agent in agents)
    for agent in agents:
        agent.link.stop()
    crew.dismiss()
    for agent in agents:
        agent.spool.close()
    return {
        "start_s": started_s,
        "cpu_s": time.process_time() - started_s,
        "numbered": sum(a.spool.last_seq for a in agents),
        "left": left,
    }


if __name__ == "__main__":
    sys.setswitchinterval(0.0005)
    port_, first_, count_ = map(int, sys.argv[2:5])
    print(json.dumps(run(Path(sys.argv[1]), port_, first_, count_, float(sys.argv[5]), int(sys.argv[6]))))
