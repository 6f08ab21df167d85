"""Supplies and meters that speak SCPI (SCPI-99, MEASure subsystem): volts times amperes of an output."""

from __future__ import annotations

from firmware_tools.meter.spec import Meter
from firmware_tools.power.scpi import BAUD
from firmware_tools.power.supply_line import ask, volts_times_amperes


def watts(spec: Meter) -> float:
    select = () if spec.channel is None else (f"INST:NSEL {spec.channel}",)
    said = ask(spec, BAUD, select, "MEAS:VOLT?", "\n"), ask(spec, BAUD, select, "MEAS:CURR?", "\n")
    return volts_times_amperes(spec, said, "check the baud rate")
