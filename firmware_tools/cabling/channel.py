"""Which meter channels follow a board that is cut or loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from firmware_tools.meter.readings import Readings
from firmware_tools.meter.spec import Meter
from hil_config.errors import HardwareError

LEAST_W = 0.3
"""Readings closer than this are no movement: meters of plugs resolve 0.1 W."""


class Windows(NamedTuple):
    """Readings of all channels, by board: before, while the board was cut or loaded, and after."""

    before: Mapping[str, Readings]
    during: Mapping[str, Readings]
    after: Mapping[str, Readings]


def follows(name: str, windows: Windows) -> bool:
    """Whether the channel of board `name` went away and came back: its readings during lie apart from those before
    and from those after, on the same side. One change alone may be a load of its own."""
    before, during, after = (one[name].watts for one in windows)
    below = max(during) + LEAST_W < min(*before, *after)
    above = min(during) - LEAST_W > max(*before, *after)
    return below or above


def judge_channels(board: str, what: str, channels: Mapping[str, Meter], windows: Windows) -> tuple[str, ...]:
    """Boards whose channel stood still.

    Args:
        what: what was done to `board`: "switched off" or "loaded".
        channels: by board, as the bench file claims them.

    Raises:
        HardwareError: another board's channel moved, or the board's own did not.
    """
    judged = [
        name
        for name in channels
        if all(name in one and one[name].provenance.kind == "measured" for one in windows)  # a model has no cable
    ]
    moved = [name for name in judged if follows(name, windows)]
    still = tuple(name for name in judged if name not in moved)
    swapped = "; ".join(
        f"meter channel {channels[name].name} moved when board {board} was {what}; the bench file gives it to {name}"
        for name in moved
        if name != board
    )
    if board in still:
        said = _watts(board, windows)
        own = f"meter channel {channels[board].name} did not move ({said}) when board {board} was {what}"
        if swapped:
            raise HardwareError(f"{swapped}; {own}", "change the meter's cables, or `meter` in the bench file")
        raise HardwareError(f"{own}; the bench file gives it to it", "mend `meter` in the bench file")
    if swapped:
        raise HardwareError(
            swapped, "is something running on that board? stop it and try again; else two boards share a channel"
        )
    return still


def _watts(name: str, windows: Windows) -> str:
    return ", ".join(f"{one[name].median_w:.2f} W" for one in windows)
