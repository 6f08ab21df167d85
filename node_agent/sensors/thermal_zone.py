"""Die temperature from the kernel's thermal zones (Documentation/driver-api/thermal/sysfs-api.rst).

`thermal_zoneN/type` names the zone, `temp` is in millidegrees Celsius. The hottest of the processor's zones
is reported: names differ between boards (cpu-thermal, CPU-therm, tj-thermal, soc_thermal). A zone that is switched
off reads -256000 and is left out, as long as another one answers.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import measured
from node_agent.config import SensorSpec
from node_agent.sensors.reading import Absent, Instrument
from node_agent.sensors.sysfs import read_integer, read_text

DRIVER = "thermal_zone"
_CPU_ZONE = re.compile(r"(cpu|tj|soc|x86_pkg)", re.IGNORECASE)
OFF_MDEG = -256_000


def _zones(root: Path) -> dict[Path, str]:
    """Name by folder."""
    names = {
        folder: read_text(folder / "type") for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    }
    return {folder: name for folder, name in names.items() if _CPU_ZONE.search(name)}


def _read(zones: list[Path]) -> tuple[float]:
    values = [read_integer(zone / "temp") for zone in zones]
    on = [value for value in values if value != OFF_MDEG]
    if not on:
        raise HardwareError(f"{zones[0]}/temp: the zone is switched off")
    return (max(on) / 1000.0,)


def find(spec: SensorSpec, hz: float) -> Instrument:
    """The board's die temperature; Absent if the kernel shows no processor zone."""
    root = Path(spec.where or "/")
    try:
        zones = _zones(root)
    except HardwareError as error:
        raise Absent(error.message) from error
    if not zones:
        raise Absent(f"{root / 'sys/class/thermal'}: no thermal zone of a processor")
    by = ", ".join(f"{folder.name} {name}" for folder, name in zones.items())
    quantity = Quantity("temperature_c", "C", hz, measured(f"hottest of {by}" if len(zones) > 1 else by))
    return Instrument(DRIVER, str(root / "sys/class/thermal"), (quantity,), partial(_read, list(zones)))
