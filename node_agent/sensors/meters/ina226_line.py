"""An INA226 on a USB serial board that prints its two registers: `bus,shunt` as signed integers, a line a sample.

Bus register 1.25 mV and shunt register 2.5 uV a digit (INA226 data sheet SBOS547, table 7-1); amperes are shunt volts
over `shunt_ohm`. The line format is this project's own; docs/how-to/add-a-sensor.md has the sketch for the board.
"""

from __future__ import annotations

from hil_config.errors import HardwareError
from node_agent.sensors.meters.port import Port

BAUD = 921_600
BEST_HZ = 100.0
NAME = "INA226 board"
BUS_V, SHUNT_V = 1.25e-3, 2.5e-6
DEFAULT_SHUNT_OHM = 0.01


def start(port: Port, shunt_ohm: float) -> None:
    """The board prints without being asked; the first line may be half of one."""
    port.read_line()


def read(port: Port, shunt_ohm: float) -> tuple[float, float]:
    """(volts, amperes) of the line that comes next: the board may print more of them than are asked for."""
    port.forget_lines()
    line = port.read_line()
    try:
        bus, shunt = (int(part) for part in line.split(","))
    except ValueError as error:
        raise HardwareError(f"{port.path}: found {line[:40]!r}, wanted two integers: bus,shunt") from error
    return bus * BUS_V, shunt * SHUNT_V / (shunt_ohm or DEFAULT_SHUNT_OHM)
