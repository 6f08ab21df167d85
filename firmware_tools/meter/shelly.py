"""Shelly plugs and relays of the second generation and later (shelly-api-docs.shelly.cloud, Switch: `apower`, W)."""

from __future__ import annotations

from firmware_tools.meter.spec import Meter
from firmware_tools.power.http_json import get_json
from hil_config.errors import HardwareError


def watts(spec: Meter) -> float:
    answer = get_json(spec, f"/rpc/Switch.GetStatus?id={spec.channel or 0}")
    power = answer.get("apower")
    if isinstance(power, bool) or not isinstance(power, int | float):
        raise HardwareError(
            f"board {spec.board}: plug at {spec.at} gives no `apower`", "this model measures no power: name another"
        )
    return float(power)
