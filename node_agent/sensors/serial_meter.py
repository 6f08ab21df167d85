"""The one driver of external meters: a port, a protocol by name, volts times amperes.

Such a meter sits in the supply line of the board, so its watts are what the whole board takes. The port is opened
again after the device went away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity
from hil_config.wire.provenance import measured
from node_agent.config import SensorSpec
from node_agent.sensors.meters import fnb58, ina226_line, korad, scpi, um25c
from node_agent.sensors.meters.port import Port, first_existing
from node_agent.sensors.reading import Absent, Instrument


class Protocol(NamedTuple):
    """What one kind of meter speaks: see the files in `meters`."""

    name: str
    baud: int
    best_hz: float
    start: Callable[[Port, float], None]
    read: Callable[[Port, float], tuple[float, float]]


PROTOCOLS: dict[str, Protocol] = {
    name: Protocol(m.NAME, m.BAUD, m.BEST_HZ, m.start, m.read)
    for name, m in {
        "um25c": um25c,
        "fnb58": fnb58,
        "ina226_line": ina226_line,
        "korad": korad,
        "scpi": scpi,
    }.items()
}


class _Meter:
    def __init__(self, path: str, protocol: Protocol, shunt_ohm: float) -> None:
        self._path, self._protocol, self._shunt_ohm = path, protocol, shunt_ohm
        self._port: Port | None = None

    def read(self) -> tuple[float, ...]:
        try:
            if self._port is None:
                self._port = Port(first_existing(self._path), self._protocol.baud)
                self._protocol.start(self._port, self._shunt_ohm)
            volts, amperes = self._protocol.read(self._port, self._shunt_ohm)
        except HardwareError:
            self.close()
            raise
        return volts * amperes, volts, amperes

    def close(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None


def find(spec: SensorSpec, hz: float) -> Instrument:
    """The meter at port `spec.where`; Absent with the reason if it does not answer there."""
    protocol = PROTOCOLS[spec.driver]
    if not spec.where:
        raise Absent(f"{spec.driver}: the board profile names no port for it")
    meter = _Meter(spec.where, protocol, spec.shunt_ohm)
    try:
        meter.read()
    except HardwareError as error:
        raise Absent(error.message) from error
    hz, by = min(hz, protocol.best_hz), f"{protocol.name} at {spec.where}, board input"
    quantities = (
        Quantity("power_w", "W", hz, measured(by)),
        Quantity("supply_v", "V", hz, measured(by)),
        Quantity("supply_a", "A", hz, measured(by)),
    )
    return Instrument(spec.driver, spec.where, quantities, meter.read, meter.close, slow=True)
