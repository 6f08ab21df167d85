"""Supplies that speak SCPI over a serial line (Rigol DP800, Keysight, R&S): MEASure:VOLTage? and :CURRent?."""

from __future__ import annotations

from hil_config.errors import HardwareError
from node_agent.sensors.meters.port import Port

BAUD = 9600
BEST_HZ = 5.0
NAME = "SCPI supply"


def start(port: Port, shunt_ohm: float) -> None:
    """Proves that something answers to the one request that every SCPI instrument knows (IEEE 488.2, 10.14)."""
    port.forget()
    port.write(b"*IDN?\n")
    if not port.read_line():
        raise HardwareError(f"{port.path}: an empty answer to *IDN?")


def _ask(port: Port, question: str) -> float:
    port.forget()
    port.write(f"{question}\n".encode())
    reply = port.read_line()
    try:
        return float(reply)
    except ValueError as error:
        raise HardwareError(f"{port.path}: {question} gave {reply[:40]!r}, wanted a number") from error


def read(port: Port, shunt_ohm: float) -> tuple[float, float]:
    """(volts, amperes)."""
    return _ask(port, "MEAS:VOLT?"), _ask(port, "MEAS:CURR?")
