"""Korad KA3005P and its many twins (KORAD KA series remote control syntax V2.0): five characters each, V and A."""

from __future__ import annotations

from firmware_tools.meter.spec import Meter
from firmware_tools.power.korad import BAUD
from firmware_tools.power.supply_line import ask, volts_times_amperes


def watts(spec: Meter) -> float:
    said = ask(spec, BAUD, (), "VOUT1?", "", 5), ask(spec, BAUD, (), "IOUT1?", "", 5)
    return volts_times_amperes(spec, said, "check the model of the supply")
