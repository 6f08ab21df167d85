"""Package power of x86 processors from the RAPL energy counters (Documentation/power/powercap/powercap.rst).

`energy_uj` counts microjoules and wraps at `max_energy_range_uj`; since 2020 only root may read it
(CVE-2020-8694). It covers the processor package, not the board.
"""

from __future__ import annotations

import time
from pathlib import Path

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import measured
from node_agent.config import SensorSpec
from node_agent.sensors.reading import Absent, Instrument
from node_agent.sensors.sysfs import read_integer, read_text

DRIVER = "rapl"


class _Package:
    """Difference quotient of one or more wrapping counters."""

    def __init__(self, zones: list[Path]) -> None:
        self._zones = zones
        self._ranges = [read_integer(zone / "max_energy_range_uj") for zone in zones]
        self._last = [read_integer(zone / "energy_uj") for zone in zones]
        self._at_s = time.monotonic()

    def read(self) -> tuple[float]:
        now = [read_integer(zone / "energy_uj") for zone in self._zones]
        at_s = time.monotonic()
        span_s = at_s - self._at_s
        if span_s <= 0.0:
            raise HardwareError("the monotonic clock has not moved between two readings")
        # The counter wraps from range to 0: difference modulo range + 1.
        spent = sum((b - a) % (r + 1) for a, b, r in zip(self._last, now, self._ranges, strict=True))
        self._last, self._at_s = now, at_s
        return (spent / 1e6 / span_s,)


def find(spec: SensorSpec, hz: float) -> Instrument:
    """Sum over all packages; Absent with the reason, which is often the permission."""
    root = Path(spec.where or "/")
    folder = root / "sys/class/powercap"
    try:
        zones = [z for z in sorted(folder.glob("intel-rapl:*")) if read_text(z / "name").startswith("package")]
        if not zones:
            raise Absent(f"{folder}: no RAPL package")
        package = _Package(zones)
    except HardwareError as error:
        raise Absent(error.message) from error
    by = f"RAPL {' + '.join(z.name for z in zones)}, processor package"
    return Instrument(DRIVER, str(folder), (Quantity("power_w", "W", hz, measured(by)),), package.read)
