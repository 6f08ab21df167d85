"""Korad KA3005P and its many twins (KORAD KA series remote control syntax V2.0): no line ends, one status byte."""

from __future__ import annotations

from firmware_tools.power.spec import Switch
from firmware_tools.power.supply_line import ask
from hil_config.errors import HardwareError

BAUD = 9600
PAUSE_S = 0.08
"""A KA3005P takes what comes within some 50 ms for the rest of the order before it; sigrok waits as long as this."""
_OUTPUT_ON = 0x40


def switch(spec: Switch, on: bool) -> None:
    orders: list[str] = []
    if on and spec.volts is not None:
        orders.append(f"VSET1:{spec.volts:05.2f}")
    if on and spec.amps is not None:
        orders.append(f"ISET1:{spec.amps:05.3f}")
    answer = ask(spec, BAUD, (*orders, f"OUT{int(on)}"), "STATUS?", "", 1, PAUSE_S)
    if bool(answer[0] & _OUTPUT_ON) is not on:
        raise HardwareError(f"board {spec.board}: supply at {spec.at} did not switch", "is its front panel locked?")


def status(spec: Switch) -> bool | None:
    return bool(ask(spec, BAUD, (), "STATUS?", "", 1)[0] & _OUTPUT_ON)
