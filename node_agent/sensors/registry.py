"""The literal table of sensor drivers, and the probe at start."""

from __future__ import annotations

from hil_config.wire.messages import Missing
from node_agent.config import AgentConfig
from node_agent.sensors import cpu_power_model, host_load, thermal_zone
from node_agent.sensors.reading import Absent, Sensor

DRIVERS = {
    "power_w": cpu_power_model.find,
    "temperature_c": thermal_zone.find,
    "cpu_percent": host_load.find_cpu,
    "memory_mb": host_load.find_memory,
}


def probe(config: AgentConfig) -> tuple[list[Sensor], list[Missing]]:
    """What this board has, and what it lacks with the reason."""
    found, missing = [], []
    for name, find in DRIVERS.items():
        try:
            found.append(find(config))
        except Absent as absent:
            missing.append(Missing(name, absent.message))
    return found, missing
