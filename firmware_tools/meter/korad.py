"""Korad KA3005P and its many twins (KORAD KA series remote control syntax V2.0): five characters each, V and A."""

from __future__ import annotations

from firmware_tools.meter.spec import Meter
from firmware_tools.power.korad import BAUD
from firmware_tools.power.supply_line import ask
from hil_config.errors import HardwareError


def watts(spec: Meter) -> float:
    said = ask(spec, BAUD, (), "VOUT1?", "", 5), ask(spec, BAUD, (), "IOUT1?", "", 5)
    try:
        return float(said[0]) * float(said[1])
    except ValueError as error:
        raise HardwareError(
            f"board {spec.board}: supply at {spec.at} says {said[0]!r} and {said[1]!r}, wanted volts and amperes",
            "check the model of the supply",
        ) from error
