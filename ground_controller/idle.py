"""Idle windows of a run: boards with everything loaded and nothing asked, before and after the work.

A window is recorded in the ground's monotonic time and read back on each node's own clock, by the offsets that were
measured at the start. What idle boards draw is told by `hil_config.energy.idle_power`: both sides, long enough, alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ground_controller.inbox import Arrival
from ground_controller.journal import Journal
from hil_config.energy import Energy, Idle, idle_power, integrate

KIND = "idle"
SETTLE_S = 1.0
"""Left out at the begin of a window: what was going on ends."""
EDGE_S = 1.5
"""Waited on after a window, so that samples reach over its end (they come in batches of a second)."""
Side = Literal["before", "after"]


class IdleWindow(msgspec.Struct, frozen=True):
    """Nanoseconds of the ground's monotonic clock."""

    side: Side
    begin_ns: int
    end_ns: int


def stay_idle(side: Side, seconds: float, turn: Callable[[], object]) -> Arrival | None:
    """Let `seconds` pass without work and return the entry that says so; None if there is no window to take.

    Args:
        turn: called again and again meanwhile; it takes some time itself and raises what ends the run.
    """
    if seconds <= 0.0:
        return None
    begin_ns = time.monotonic_ns() + int(SETTLE_S * 1e9)
    end_ns = begin_ns + int(seconds * 1e9)
    while time.monotonic_ns() < end_ns + int(EDGE_S * 1e9):
        turn()
    return Arrival(time.monotonic_ns(), KIND, "", "", 0, msgspec.json.encode(IdleWindow(side, begin_ns, end_ns)))


def idle_windows(journal: Journal) -> list[IdleWindow]:
    """As recorded."""
    return [msgspec.json.decode(entry.body, type=IdleWindow) for entry in journal.entries(KIND)]


def measured_idle(
    windows: list[IdleWindow], offset_ns: int, mono_ns: NDArray[np.int64], watts: NDArray[np.float64], hz: float
) -> Idle | None:
    """What a board drew when idle; None if the run took no windows.

    Args:
        offset_ns: the node's monotonic clock minus the ground's.
        mono_ns: int64 [samples] on the node's clock, of the whole run; `watts` float64 [samples].
        hz: nominal sampling rate.
    """
    found: Mapping[Side, Energy] = {
        w.side: integrate(mono_ns, watts, w.begin_ns + offset_ns, w.end_ns + offset_ns, hz) for w in windows
    }
    if not found:
        return None
    if "before" not in found or "after" not in found:
        return Idle(None, 0.0, "the run ended before its second idle window")
    return idle_power(found["before"], found["after"])
