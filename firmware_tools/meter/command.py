"""Any program that prints watts."""

from __future__ import annotations

from firmware_tools.meter.spec import Meter
from firmware_tools.power.command import run
from hil_config.errors import HardwareError


def watts(spec: Meter) -> float:
    said = run(spec.board, spec.watts_command).strip()
    try:
        return float(said)
    except ValueError as error:
        raise HardwareError(
            f"board {spec.board}: watts_command printed {said[:40]!r}, wanted a number", "mend it"
        ) from error
