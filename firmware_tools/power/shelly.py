"""Shelly plugs and relays of the second generation and later: RPC over HTTP (shelly-api-docs.shelly.cloud, Switch)."""

from __future__ import annotations

from firmware_tools.power.http_json import get_json
from firmware_tools.power.spec import Switch
from hil_config.errors import HardwareError


def switch(spec: Switch, on: bool) -> None:
    get_json(spec, f"/rpc/Switch.Set?id={spec.channel or 0}&on={'true' if on else 'false'}")
    if status(spec) is not on:
        raise HardwareError(f"board {spec.board}: plug at {spec.at} did not switch", "look for a lock in its settings")


def status(spec: Switch) -> bool | None:
    answer = get_json(spec, f"/rpc/Switch.GetStatus?id={spec.channel or 0}")
    output = answer.get("output")
    if not isinstance(output, bool):
        raise HardwareError(f"board {spec.board}: plug at {spec.at} gives no `output`", "first generation: via command")
    return output
