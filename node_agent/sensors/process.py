"""CPU and memory of the agent's own process, by psutil."""

from __future__ import annotations

import psutil

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import measured
from node_agent.config import SensorSpec
from node_agent.sensors.reading import Instrument

DRIVER = "process"


def find(spec: SensorSpec, hz: float) -> Instrument:
    """Percent of one core used since the last reading, and resident memory in MB (1e6 bytes)."""
    process = psutil.Process()
    process.cpu_percent(None)
    quantities = (
        Quantity("cpu_percent", "%", hz, measured("psutil process times")),
        Quantity("memory_mb", "MB", hz, measured("psutil resident set")),
    )

    def read() -> tuple[float, ...]:
        try:
            with process.oneshot():
                return (float(process.cpu_percent(None)), process.memory_info().rss / 1e6)
        except psutil.Error as error:
            raise HardwareError(f"psutil: {error}") from error

    return Instrument(DRIVER, "/proc/self", quantities, read)
