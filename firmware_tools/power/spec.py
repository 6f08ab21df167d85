"""What a power switch is told, and what it answers."""

from __future__ import annotations

from typing import Protocol

import msgspec

from firmware_tools.secret_file import first_line


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
        return first_line(self.password_file)


class Place(Protocol):
    """Where an instrument of a board is, and how one logs in: a `Switch` or a `Meter`."""

    @property
    def board(self) -> str: ...

    @property
    def at(self) -> str: ...

    @property
    def user(self) -> str: ...

    def password(self) -> str:
        """Empty if there is none."""


class Backend(Protocol):
    """A module of this package, or an object of the user's own."""

    def switch(self, spec: Switch, on: bool) -> None:
        """Switch; HardwareError if the switch does not do it."""

    def status(self, spec: Switch) -> bool | None:
        """Whether the switch says that it is on; None if it cannot tell."""
