"""Supplies and meters that speak SCPI (SCPI-99, MEASure subsystem): volts times amperes of an output."""

from __future__ import annotations

from firmware_tools.meter.spec import Meter
from firmware_tools.power.scpi import BAUD
from firmware_tools.power.supply_line import ask
from hil_config.errors import HardwareError


def watts(spec: Meter) -> float:
    select = () if spec.channel is None else (f"INST:NSEL {spec.channel}",)
    said = ask(spec, BAUD, select, "MEAS:VOLT?", "\n"), ask(spec, BAUD, select, "MEAS:CURR?", "\n")
    try:
        return float(said[0]) * float(said[1])
    except ValueError as error:
        raise HardwareError(
            f"board {spec.board}: supply at {spec.at} says {said[0]!r} and {said[1]!r}, wanted volts and amperes",
            "check the baud rate",
        ) from error
