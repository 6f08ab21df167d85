"""FNIRSI FNB58, FNB48S and C1 USB meters on their hidraw node (/dev/hidraw*).

64-byte reports, first byte 0xAA; type 4 at byte 1 holds four samples of 10 ms each from byte 2 on, 15 bytes a sample:
volts and amperes as little-endian u32 in units of 1e-5. The meter must be asked to start and then once a second to
go on; hidraw wants the report number 0 before each request (Documentation/hid/hidraw.rst). Layout after
baryluk/fnirsi-usb-power-data-logger. A reading is the mean of a report's four samples.
"""

from __future__ import annotations

import struct
import time

from hil_config.errors import HardwareError
from node_agent.sensors.meters.port import TIMEOUT_S, Port

BAUD = 115_200
BEST_HZ = 25.0
NAME = "FNIRSI FNB58"
REPORT_BYTES = 64
DATA = 4
START = tuple(
    b"\x00\xaa" + bytes([n]) + bytes(61) + bytes([end]) for n, end in ((0x81, 0x8E), (0x82, 0x96), (0x82, 0x96))
)
GO_ON = b"\x00\xaa\x83" + bytes(61) + b"\x9e"
_SAMPLE = struct.Struct("<II")


def start(port: Port, shunt_ohm: float) -> None:
    """Ask for the stream."""
    for request in START:
        port.write(request)


def read(port: Port, shunt_ohm: float) -> tuple[float, float]:
    """(volts, amperes), mean over 40 ms."""
    port.forget()
    port.write(GO_ON)
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        report = port.read_exactly(REPORT_BYTES)
        if report[0] != 0xAA:
            raise HardwareError(f"{port.path}: a report begins with {report[0]:#04x}, wanted 0xaa: not this meter")
        if report[1] == DATA:
            samples = [_SAMPLE.unpack_from(report, 2 + 15 * i) for i in range(4)]
            return sum(v for v, _ in samples) / 4e5, sum(a for _, a in samples) / 4e5
    raise HardwareError(f"{port.path}: no data report within {TIMEOUT_S:g} s")
