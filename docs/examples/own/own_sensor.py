"""A sensor of one's own: the load average, for boards whose instrument is still in the post."""

from __future__ import annotations

from pathlib import Path

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import measured
from node_agent.config import SensorSpec
from node_agent.sensors.reading import Absent, Instrument


def find(spec: SensorSpec, hz: float) -> Instrument:
    """`spec.where`: the file, by default that of the running kernel."""
    path = Path(spec.where or "/proc/loadavg")
    if not path.exists():
        raise Absent(f"{path} does not exist")

    def read() -> tuple[float, ...]:
        try:
            return (float(path.read_text().split()[0]),)
        except (OSError, ValueError, IndexError) as error:
            raise HardwareError(f"{path}: {error}") from error

    return Instrument("load_average", str(path), (Quantity("load_1", "1", hz, measured("kernel load average")),), read)
