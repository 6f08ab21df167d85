"""Which channel of which instrument measures a board, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from firmware_tools.secret_file import first_line
from hil_config.wire.provenance import Provenance, measured

if TYPE_CHECKING:
    from hil_config.schema.bench import Board


class Meter(msgspec.Struct, frozen=True):
    """The `meter` section of a board, as `hil_config.schema.hardware.PowerMeter` says it, plus the board's name."""

    board: str
    via: str
    at: str = ""
    channel: int | None = None
    watts_command: tuple[str, ...] = ()
    user: str = "admin"
    password_file: str | None = None

    def password(self) -> str:
        """First line of the password file; empty if there is none."""
        return first_line(self.password_file)

    @property
    def node(self) -> str:
        """via agent: whose agent reads the instrument."""
        return self.at or self.board

    @property
    def name(self) -> str:
        """For people, such as `shelly http://plug channel 1`."""
        where = {"agent": self.node, "command": " ".join(self.watts_command)}.get(self.via, self.at)
        return f"{self.via} {where}" + (f" channel {self.channel}" if self.channel is not None else "")

    @property
    def provenance(self) -> Provenance:
        """Of what a driver of this package reads; an agent's readings carry their own."""
        return measured(self.name)


class Reader(Protocol):
    """A module of this package."""

    def watts(self, spec: Meter) -> float:
        """Power now, in watts; HardwareError if the instrument does not say it."""


def meter_of(board: Board) -> Meter | None:
    """None if the bench file names none."""
    return None if board.meter is None else Meter(board.name, **board.meter.model_dump())
