"""Who holds a board, and until when. Everybody's commands on it are refused meanwhile, but the holder's."""

from __future__ import annotations

import getpass
import os
import socket
import time
from datetime import datetime, timezone

import msgspec

from firmware_tools.state import State
from hil_config.errors import SafetyRefusal


class Reservation(msgspec.Struct, frozen=True):
    """`until` in Unix seconds."""

    board: str
    holder: str
    until: float
    reason: str = ""


def me() -> str:
    """How this person is named as a holder; the same under sudo, which disks want, and so does a bench of another user
    whom several people work as."""
    caller = os.environ.get("SUDO_USER", "")
    return f"{caller if caller not in ('', 'root') else getpass.getuser()}@{socket.gethostname()}"


def holder_of(board: str, state: State) -> Reservation | None:
    """The reservation in force, or None."""
    found = state.read("reservations", board, Reservation)
    return found if found is not None and found.until > time.time() else None


def check_free(board: str, state: State, who: str = "") -> None:
    """SafetyRefusal if somebody else holds the board."""
    found = holder_of(board, state)
    if found is not None and found.holder != (who or me()):
        until = datetime.fromtimestamp(found.until, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        why = f" ({found.reason})" if found.reason else ""
        raise SafetyRefusal(
            f"board {board}: {found.holder} holds it until {until}{why}",
            f"ask them, or: hil bench release {board} --force",
        )


def reserve(board: str, hours: float, reason: str, state: State, who: str = "") -> Reservation:
    """Take or prolong."""
    with state.busy(f"{board}.reservation", "hil bench reserve"):
        check_free(board, state, who)
        made = Reservation(board, who or me(), time.time() + hours * 3600, reason)
        state.write("reservations", board, made)
    return made


def release(board: str, state: State, force: bool, who: str = "") -> None:
    """Give back; another's only with `force`."""
    if not force:
        check_free(board, state, who)
    state.forget("reservations", board)
