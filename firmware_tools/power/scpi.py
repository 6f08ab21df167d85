"""Supplies that speak SCPI (SCPI-99, OUTPut and SOURce subsystems) on a serial line or socket://host:port."""

from __future__ import annotations

from firmware_tools.power.spec import Switch
from firmware_tools.power.supply_line import ask
from hil_config.errors import HardwareError

BAUD = 115_200


def _select(spec: Switch) -> tuple[str, ...]:
    return () if spec.channel is None else (f"INST:NSEL {spec.channel}",)


def switch(spec: Switch, on: bool) -> None:
    orders = list(_select(spec))
    if on and spec.volts is not None:
        orders.append(f"VOLT {spec.volts:.3f}")
    if on and spec.amps is not None:
        orders.append(f"CURR {spec.amps:.3f}")
    if _is_on(spec, ask(spec, BAUD, (*orders, f"OUTP {'ON' if on else 'OFF'}"), "OUTP?", "\n")) is not on:
        raise HardwareError(f"board {spec.board}: supply at {spec.at} did not switch", "is its front panel locked?")


def status(spec: Switch) -> bool | None:
    return _is_on(spec, ask(spec, BAUD, _select(spec), "OUTP?", "\n"))


def _is_on(spec: Switch, answer: bytes) -> bool:
    said = answer.decode("ascii", "replace").strip()
    if said not in ("0", "1", "ON", "OFF"):
        raise HardwareError(
            f"board {spec.board}: supply at {spec.at} says {said!r}, wanted 0 or 1", "check the baud rate"
        )
    return said in ("1", "ON")
