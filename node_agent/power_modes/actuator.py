"""What an actuator is: a name, a place, a way to read the setting and one to change it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hil_config.errors import HardwareError


class Actuator(NamedTuple):
    """`read()` gives the setting in the form that `apply` takes. Both raise HardwareError with file or command."""

    name: str
    where: str
    read: Callable[[], str]
    apply: Callable[[str], None]


def write_text(path: Path, text: str) -> None:
    """Write one value to a kernel attribute; HardwareError names it."""
    try:
        path.write_text(f"{text}\n", encoding="ascii")
    except OSError as error:
        raise HardwareError(
            f"{path}: {text!r} was refused: {error.strerror}", "the agent's unit must allow writing there"
        ) from error
