"""CPU and memory of the agent's process, by psutil."""

from __future__ import annotations

import psutil

from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import measured
from node_agent.config import AgentConfig
from node_agent.sensors.reading import Sensor


def find_cpu(config: AgentConfig) -> Sensor:
    """Percent of one core used by this process since the last reading."""
    process = psutil.Process()
    process.cpu_percent(None)
    quantity = Quantity("cpu_percent", "%", config.sample_hz, measured("psutil process times"))
    return Sensor(quantity, lambda: float(process.cpu_percent(None)))


def find_memory(config: AgentConfig) -> Sensor:
    """Resident memory of this process in MB (1e6 bytes)."""
    process = psutil.Process()
    quantity = Quantity("memory_mb", "MB", config.sample_hz, measured("psutil resident set"))
    return Sensor(quantity, lambda: process.memory_info().rss / 1e6)
