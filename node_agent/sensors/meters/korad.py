"""Korad KA3005P and its relatives: 9600 baud, requests without an end, replies of five characters.

`VOUT1?` and `IOUT1?` give what the output really delivers (Korad programming manual). Some firmware appends a
stray sixth character to the current; it is dropped with what else waits before the next request.
"""

from __future__ import annotations

from hil_config.errors import HardwareError
from node_agent.sensors.meters.port import Port

BAUD = 9600
BEST_HZ = 3.0
NAME = "Korad supply"
REPLY_BYTES = 5


def start(port: Port, shunt_ohm: float) -> None:
    """Nothing to prepare."""


def _ask(port: Port, question: bytes) -> float:
    port.forget()
    port.write(question)
    reply = port.read_exactly(REPLY_BYTES).decode("ascii", "replace")
    try:
        return float(reply)
    except ValueError as error:
        raise HardwareError(f"{port.path}: {question.decode()} gave {reply!r}, wanted a number like 05.12") from error


def read(port: Port, shunt_ohm: float) -> tuple[float, float]:
    """(volts, amperes)."""
    return _ask(port, b"VOUT1?"), _ask(port, b"IOUT1?")
