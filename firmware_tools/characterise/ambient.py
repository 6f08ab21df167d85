"""The temperature of the room: read by a person, or from a sensor of this machine."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from hil_config.errors import HardwareError, UsageError
from hil_config.wire.provenance import Provenance, measured

LEAST_C, MOST_C = -40.0, 60.0


class Ambient(msgspec.Struct, frozen=True):
    """Degrees Celsius before and after, and what said so."""

    before_c: float
    after_c: float
    provenance: Provenance


class Thermometer:
    """Args: `told_c` and `by`, what a person read and on which instrument; or `sensor`, a file of the kernel in
    millidegrees Celsius (hwmon's tempN_input, or a thermal zone's temp).

    Raises:
        UsageError: neither or both, or no instrument. HardwareError: the sensor does not answer.
    """

    def __init__(self, told_c: float | None, by: str, sensor: str) -> None:
        if (told_c is None) == (not sensor):
            raise UsageError(
                "the room's temperature: wanted either --ambient-c or --ambient-sensor",
                "--ambient-c 22.5 --ambient-by 'TFA 30.1065', or --ambient-sensor /sys/class/hwmon/hwmon3/temp1_input",
            )
        if told_c is not None and not by.strip():
            raise UsageError("--ambient-c without --ambient-by", "say on which thermometer it was read")
        self._told_c, self._sensor = told_c, Path(sensor)
        self.provenance = measured(f"{by.strip()}, read by hand" if told_c is not None else self._name())
        self.read()

    def _name(self) -> str:
        for beside in ("name", "type"):
            try:
                return f"{(self._sensor.parent / beside).read_text().strip()} at {self._sensor}"
            except OSError:
                continue
        return str(self._sensor)

    def read(self) -> float:
        """Degrees Celsius now; what a person told stays."""
        celsius = self._told_c
        if celsius is None:
            try:
                celsius = int(self._sensor.read_text()) / 1000.0
            except (OSError, ValueError) as error:
                raise HardwareError(
                    f"{self._sensor}: {getattr(error, 'strerror', None) or error}", "wanted millidegrees Celsius"
                ) from error
        if not math.isfinite(celsius) or not LEAST_C <= celsius <= MOST_C:
            raise HardwareError(f"{celsius:g} C is no room, wanted {LEAST_C:g} to {MOST_C:g}", "which sensor is it?")
        return celsius
