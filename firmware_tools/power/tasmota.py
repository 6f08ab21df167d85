"""Plugs with Tasmota: commands over HTTP (tasmota.github.io/docs/Commands, Power). Outlets count from 1."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from firmware_tools.power.http_json import get_json
from firmware_tools.power.spec import Switch
from hil_config.errors import HardwareError


def _command(spec: Switch, words: str) -> bool:
    query = {"cmnd": words}
    if spec.password_file:
        query = {"user": spec.user, "password": spec.password(), **query}
    answer = get_json(spec, f"/cm?{urlencode(query, quote_via=quote)}")
    for key in (f"POWER{spec.channel or ''}", "POWER", "POWER1"):
        if answer.get(key) in ("ON", "OFF"):
            return bool(answer[key] == "ON")
    raise HardwareError(f"board {spec.board}: plug at {spec.at} says {answer!r:.80}", "check `channel` and password")


def switch(spec: Switch, on: bool) -> None:
    if _command(spec, f"Power{spec.channel or ''} {'On' if on else 'Off'}") is not on:
        raise HardwareError(f"board {spec.board}: plug at {spec.at} did not switch", "look for a lock in its settings")


def status(spec: Switch) -> bool | None:
    return _command(spec, f"Power{spec.channel or ''}")
