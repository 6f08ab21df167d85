"""The switch of a virtual board: on starts the emulator, off ends it in the middle of whatever it does."""

from __future__ import annotations

from pathlib import Path

import msgspec

from firmware_tools.power.spec import Switch
from firmware_tools.virtual import machine
from hil_config.errors import HardwareError


def _machine(spec: Switch) -> machine.Machine:
    try:
        return msgspec.json.decode(Path(spec.at).read_bytes(), type=machine.Machine)
    except (OSError, ValueError) as error:
        raise HardwareError(f"board {spec.board}: {spec.at}: {error}", f"hil power {spec.board} status") from error


def switch(spec: Switch, on: bool) -> None:
    (machine.start if on else machine.stop)(_machine(spec))


def status(spec: Switch) -> bool | None:
    return machine.process_of(_machine(spec)) is not None
