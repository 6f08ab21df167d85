"""What a power switch is told, and what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from hil_config.errors import ConfigError


class Switch(msgspec.Struct, frozen=True):
    """The `power` section of a board, as `hil_config.schema.hardware.PowerSwitch` says it, plus the board's name."""

    board: str
    via: str
    at: str = ""
    channel: int | None = None
    on_command: tuple[str, ...] = ()
    off_command: tuple[str, ...] = ()
    status_command: tuple[str, ...] = ()
    active_low: bool = False
    volts: float | None = None
    amps: float | None = None
    user: str = "admin"
    password_file: str | None = None

    def password(self) -> str:
        """First line of the password file; empty if there is none."""
        if self.password_file is None:
            return ""
        try:
            return Path(self.password_file).read_text(encoding="utf-8").splitlines()[0]
        except (OSError, IndexError) as error:
            raise ConfigError(f"{self.password_file}: no password in it", "write it into its first line") from error


class Backend(Protocol):
    """A module of this package."""

    def switch(self, spec: Switch, on: bool) -> None:
        """Switch; HardwareError if the switch does not do it."""

    def status(self, spec: Switch) -> bool | None:
        """Whether the switch says that it is on; None if it cannot tell."""
