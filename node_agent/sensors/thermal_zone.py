"""Die temperature from the kernel's thermal zones (Documentation/driver-api/thermal/sysfs-api.rst).

`thermal_zoneN/type` names the zone, `temp` is in millidegrees Celsius. The hottest of the processor's zones
is reported: names differ between boards (cpu-thermal, CPU-therm, tj-thermal, soc_thermal).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import measured
from node_agent.config import AgentConfig
from node_agent.sensors.reading import Absent, Sensor

_CPU_ZONE = re.compile(r"(cpu|tj|soc|x86_pkg)", re.IGNORECASE)
PLAUSIBLE_C = (-60.0, 150.0)


def _zones(root: Path) -> list[Path]:
    folders = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    return [f for f in folders if _CPU_ZONE.search((f / "type").read_text(errors="replace"))]


def _read(zones: list[Path]) -> float:
    values = []
    for zone in zones:
        try:
            value = int((zone / "temp").read_text()) / 1000.0
        except (OSError, ValueError) as error:
            raise HardwareError(f"{zone}/temp: {error}") from error
        if not PLAUSIBLE_C[0] <= value <= PLAUSIBLE_C[1]:
            raise HardwareError(f"{zone}/temp: {value} C is not plausible")
        values.append(value)
    return max(values)


def find(config: AgentConfig) -> Sensor:
    """The board's die temperature; Absent if the kernel shows no processor zone."""
    root = Path(config.sysfs_root)
    try:
        zones = _zones(root)
    except OSError as error:
        raise Absent(f"{root / 'sys/class/thermal'}: {error.strerror}") from error
    if not zones:
        raise Absent(f"{root / 'sys/class/thermal'}: no thermal zone of a processor")
    quantity = Quantity("temperature_c", "C", config.sample_hz, measured(f"thermal zone {zones[0].name}"))
    return Sensor(quantity, partial(_read, zones))
