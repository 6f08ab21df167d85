"""How a board on the table is reached: its disk, its serial line, its power switch, its shell."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from hil_config.own_code import is_own
from hil_config.schema.strict import Host, OwnCode, Strict, refuse

PATH_FIELDS: tuple[tuple[str, str], ...] = (
    ("disk", "file"),
    ("disk", "loop_file"),
    ("console", "password_file"),
    ("power", "password_file"),
    ("meter", "password_file"),
    ("ssh", "key_file"),
    ("ssh", "host_key_file"),
)
"""(section of a board, key) of what is a path, relative to the bench file."""

_DISK_NAMES = ("serial", "wwn", "by_path", "loop_file", "file")


class Disk(Strict):
    """What `hil flash` may overwrite, named by what does not change when it is plugged in again."""

    serial: str | None = Field(default=None, description="Serial number of the card or disk.", min_length=1)
    wwn: str | None = Field(default=None, description="World-wide name of the disk.", min_length=1)
    by_path: str | None = Field(
        default=None, description="Name below /dev/disk/by-path: a port, for readers without a serial.", min_length=1
    )
    loop_file: str | None = Field(default=None, description="File behind a loop device.", min_length=1)
    file: str | None = Field(default=None, description="A disk image, for instance of a virtual board.", min_length=1)
    size_gb: float | None = Field(default=None, description="Size of `file` in GB (1e9 bytes).", gt=0, le=100_000)
    max_gb: float = Field(default=1024, description="A larger disk is refused, in GB (1e9 bytes).", gt=0, le=100_000)

    @property
    def stable_id(self) -> str:
        """The name that stands for the disk, and that `hil flash --yes` wants."""
        return str(next(value for name in _DISK_NAMES if (value := getattr(self, name)) is not None))

    @property
    def named_by(self) -> str:
        """Which key names it."""
        return next(name for name in _DISK_NAMES if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _check_one_name(self) -> Disk:
        given = [name for name in _DISK_NAMES if getattr(self, name) is not None]
        if len(given) != 1:
            raise refuse(
                (),
                f"found {' and '.join(given) or 'no name'}, wanted exactly one of {', '.join(_DISK_NAMES)}",
                "`lsblk -o NAME,SIZE,MODEL,SERIAL,WWN` and `ls -l /dev/disk/by-path` show what there is",
            )
        return self


class ConsoleLine(Strict):
    """A serial line."""

    port: str = Field(
        description="Device (/dev/serial/by-id/...), socket://host:port or rfc2217://host:port.", min_length=1
    )
    baud: int = Field(default=115_200, description="Bits per second.", ge=300, le=4_000_000)
    user: str = Field(default="hil", description="Who logs in.", min_length=1)
    password_file: str | None = Field(default=None, description="File whose first line is the password.")

    @property
    def loopback_port(self) -> int | None:
        """Where an emulator on this machine serves the line; None if `port` is something else."""
        found = re.fullmatch(r"socket://127\.0\.0\.1:([0-9]{1,5})", self.port)
        return int(found[1]) if found is not None and 0 < int(found[1]) < 65_536 else None


_FIRST = {"shelly": 0, "tasmota": 1, "scpi": 1}
"""The channel that is meant where none is written; SCPI: of an instrument as it starts."""


def _channel(via: str, at: str, channel: int | None) -> tuple[object, ...]:
    """One output however it is written. A Korad's supply has one alone."""
    number = None if via == "korad" else _FIRST.get(via) if channel is None else channel
    return via, at.rstrip("/"), max(number or 0, 1) if via == "tasmota" else number


class PowerSwitch(Strict):
    """What cuts the board's supply."""

    via: Literal["command", "gpio", "korad", "scpi", "shelly", "tasmota", "uhubctl", "virtual"] | OwnCode = Field(
        description="Kind of switch, or `module:Name` of your own."
    )
    at: str = Field(default="", description="Where: URL, serial port, location of a USB hub, GPIO chip.")
    channel: int | None = Field(default=None, description="Outlet, output, port or GPIO line.", ge=0, le=1023)
    on_command: tuple[str, ...] = Field(default=(), description="Program and arguments that switch on.")
    off_command: tuple[str, ...] = Field(default=(), description="Program and arguments that switch off.")
    status_command: tuple[str, ...] = Field(default=(), description="Program that prints `on` or `off`.")
    active_low: bool = Field(default=False, description="gpio: the relay is closed when the line is low.")
    volts: float | None = Field(default=None, description="scpi, korad: voltage to set before on.", gt=0, le=60)
    amps: float | None = Field(default=None, description="scpi, korad: current limit to set before on.", gt=0, le=60)
    user: str = Field(default="admin", description="shelly, tasmota: who logs in, if a password is set.")
    password_file: str | None = Field(default=None, description="File whose first line is the password.")

    @model_validator(mode="after")
    def _check_complete(self) -> PowerSwitch:
        if self.via == "command" and not (self.on_command and self.off_command):
            raise refuse((), "via command wants on_command and off_command", "write both as lists of words")
        if self.via not in ("command", "virtual") and not is_own(self.via) and not self.at:
            raise refuse((), f"via {self.via} wants `at`", "write the URL, port or location of the switch")
        if self.via in ("uhubctl", "gpio") and self.channel is None:
            raise refuse((), f"via {self.via} wants `channel`", "write the number of the port or line")
        return self

    @property
    def place(self) -> tuple[object, ...] | None:
        """What no other board may have; None where only the board itself, or code of the user's, tells it."""
        if self.via == "virtual" or is_own(self.via):
            return None
        if self.via == "command":
            return self.on_command, self.off_command
        return _channel(self.via, self.at, self.channel)


class PowerMeter(Strict):
    """What measures the power of the whole board, in its supply line: one channel of an instrument."""

    via: Literal["agent", "command", "korad", "scpi", "shelly", "tasmota"] = Field(
        description="Kind of instrument; agent: what the meter that an agent reads says, its `power_w`."
    )
    at: str = Field(default="", description="Where: URL or serial port; agent: the node that reads it, else its own.")
    channel: int | None = Field(default=None, description="Outlet or output.", ge=0, le=1023)
    watts_command: tuple[str, ...] = Field(default=(), description="Program and arguments that print watts.")
    user: str = Field(default="admin", description="shelly, tasmota: who logs in, if a password is set.")
    password_file: str | None = Field(default=None, description="File whose first line is the password.")

    @model_validator(mode="after")
    def _check_complete(self) -> PowerMeter:
        if self.via == "command" and not self.watts_command:
            raise refuse((), "via command wants watts_command", "write it as a list of words")
        if self.via not in ("agent", "command") and not self.at:
            raise refuse((), f"via {self.via} wants `at`", "write the URL or port of the instrument")
        return self

    def place(self, board: str) -> tuple[object, ...]:
        """What no other board may have."""
        if self.via == "command":
            return self.watts_command
        return ("agent", self.at or board) if self.via == "agent" else _channel(self.via, self.at, self.channel)


class Ssh(Strict):
    """A shell over the management network."""

    host: Host = Field(description="Address on the management network, never the shaped data network.")
    port: int = Field(default=22, description="TCP port.", ge=1, le=65_535)
    user: str = Field(default="hil", description="Who logs in.", min_length=1)
    key_file: str = Field(description="Private key of the bench, mode 0600.", min_length=1)
    host_key_file: str = Field(description="known_hosts file with the board's pinned host key.", min_length=1)
