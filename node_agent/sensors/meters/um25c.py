"""RDTech UM24C, UM25C and UM34C USB meters on a Bluetooth serial port (rfcomm).

Request 0xF0, reply 130 bytes, big-endian: model at 0, volts at 2, amperes at 4, power in mW at 6 (u32). Layout and
scales after the sigrok wiki (RDTech UM series) and rfinnie/rdserialtool. About two readings a second.
"""

from __future__ import annotations

import struct

from hil_config.errors import HardwareError
from node_agent.sensors.meters.port import Port

BAUD = 9600
BEST_HZ = 2.0
NAME = "RDTech UM meter"
FRAME_BYTES = 130
_HEAD = struct.Struct(">HHHI")
_SCALES = {0x0963: (1e-2, 1e-3), 0x09C9: (1e-3, 1e-4), 0x0D4C: (1e-2, 1e-3)}
"""Model number -> (volts, amperes) of the last digit: UM24C, UM25C, UM34C."""


def start(port: Port, shunt_ohm: float) -> None:
    """The meter only speaks when asked."""


def read(port: Port, shunt_ohm: float) -> tuple[float, float]:
    """(volts, amperes)."""
    port.forget()
    port.write(b"\xf0")
    model, volts, amperes, milliwatts = _HEAD.unpack_from(port.read_exactly(FRAME_BYTES))
    if model not in _SCALES:
        raise HardwareError(f"{port.path}: model {model:#06x}, wanted one of {', '.join(map(hex, _SCALES))}")
    scale_v, scale_a = _SCALES[model]
    result = volts * scale_v, amperes * scale_a
    if abs(result[0] * result[1] * 1e3 - milliwatts) > 50 + 0.05 * milliwatts:
        raise HardwareError(f"{port.path}: {result[0]} V x {result[1]} A is not the {milliwatts} mW of the same frame")
    return result
