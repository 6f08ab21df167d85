"""Power backends by name: a literal table, or `module:Name` of the user's own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from firmware_tools.power.spec import Backend, Switch
from hil_config.errors import ConfigError
from hil_config.own_code import own_code

if TYPE_CHECKING:
    from hil_config.schema.bench import Board

BACKENDS: dict[str, str] = {
    "command": "firmware_tools.power.command",
    "gpio": "firmware_tools.power.gpio",
    "korad": "firmware_tools.power.korad",
    "scpi": "firmware_tools.power.scpi",
    "shelly": "firmware_tools.power.shelly",
    "tasmota": "firmware_tools.power.tasmota",
    "uhubctl": "firmware_tools.power.uhubctl",
    "virtual": "firmware_tools.power.virtual",
}


def backend(spec: Switch) -> Backend:
    """The module that switches `spec`."""
    if spec.via in BACKENDS:
        return cast(Backend, importlib.import_module(BACKENDS[spec.via]))
    found = own_code(spec.via, "power switch", BACKENDS)
    lacking = [name for name in ("switch", "status") if not callable(getattr(found, name, None))]
    if lacking:
        raise ConfigError(
            f"power switch {spec.via!r} lacks {' and '.join(lacking)}",
            "it needs switch(spec, on) and status(spec), see firmware_tools/power/spec.py",
        )
    return cast(Backend, found)


def switch_of(board: Board) -> Switch:
    """ConfigError if the bench file does not say how to switch the board."""
    if board.power is None:
        raise ConfigError(
            f"board {board.name} has no `power` in the bench file", "add for instance `power: {via: shelly, at: URL}`"
        )
    return Switch(board.name, **board.power.model_dump())
