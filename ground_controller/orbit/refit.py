"""Element sets of a whole constellation at one epoch, for programs that want them so.

A set is moved by finding the mean elements from which SGP4 gives the same state at the new epoch: their osculating
elements are compared, and the difference is taken off the mean ones, again and again (Walter, Astronautics, 3.4.1).
Two lines hold angles to 0.0001 degrees, so a low orbit is met to some 15 m. Drag terms are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.elements import Elements, checksum
from ground_controller.orbit.propagate import Ephemeris, positions
from ground_controller.orbit.walker import EARTH_MU_KM3_S2, WalkerShell
from hil_config.errors import DataFileError

ROUNDS = 8
MOST_KM = 0.2
"""A set that cannot be moved this well is refused; rounding alone costs up to 0.05 km in geostationary orbit."""

Float = NDArray[np.float64]


def epoch_columns(epoch: datetime) -> str:
    """Columns 19 to 32 of line 1: two digits of the year, the day of the year to 1e-8."""
    day = (epoch - datetime(epoch.year, 1, 1, tzinfo=timezone.utc)) / timedelta(days=1) + 1.0
    return f"{epoch.year % 100:02d}{day:012.8f}"


def at_epoch(elements: Sequence[Elements], epoch: datetime) -> tuple[Elements, ...]:
    """The sets moved to an epoch (rounded to 1e-8 days); those that are of it already stay as they are.

    Raises:
        DataFileError: SGP4 cannot carry a set to the epoch, or no set there gives its state.
    """
    stamp = epoch_columns(epoch)
    old = [n for n, one in enumerate(elements) if one.line1[18:32] != stamp]
    if not old:
        return tuple(elements)
    moving = [elements[n] for n in old]
    instant = _with(moving[0], stamp, np.zeros(6) + [15.0, 0.0, 0.0, 0.0, 0.0, 0.0]).epoch
    zero = np.zeros(1)
    wanted = positions(moving, instant, zero)
    goal = _osculating(wanted)
    mean, best = goal.copy(), np.full(len(moving), np.inf)
    found = list(moving)
    for _ in range(ROUNDS):
        tried = [_with(one, stamp, values) for one, values in zip(moving, mean, strict=True)]
        there = positions(tried, instant, zero)
        apart = np.linalg.norm(there.position_km - wanted.position_km, axis=-1)[0]
        for n in np.flatnonzero(apart < best).tolist():
            found[n], best[n] = tried[n], apart[n]
        step = goal - _osculating(there)
        step[:, 3:] = (step[:, 3:] + 180.0) % 360.0 - 180.0
        mean += step
    worst = int(best.argmax())
    if not best[worst] <= MOST_KM:
        raise DataFileError(
            f"elements of {moving[worst].name!r} cannot be moved to {epoch:%Y-%m-%dT%H:%M:%SZ}: what comes closest is"
            f" {best[worst]:.3g} km away",
            "leave this satellite out, or give elements of that epoch",
        )
    out = list(elements)
    for n, one in zip(old, found, strict=True):
        out[n] = one
    return tuple(out)


def shell_elements(shell: WalkerShell, epoch: datetime, first_number: int) -> tuple[Elements, ...]:
    """Sets of a shell: circles with its mean motion, without drag. SGP4 adds the Earth's flattening to them."""
    stamp, found = epoch_columns(epoch), []
    spread = 360.0 if shell.pattern == "delta" else 180.0
    motion = shell.motion_rad_s * 86_400.0 / (2.0 * np.pi)
    for index, name in enumerate(shell.names):
        plane, slot = divmod(index, shell.per_plane)
        number = first_number + index
        node = shell.node_deg + plane * spread / shell.planes
        along = shell.anomaly_deg + 360.0 * (slot + plane * shell.phasing / shell.planes) / shell.per_plane
        one = f"1 {number:05d}U 00000ABC {stamp}  .00000000  00000-0  00000+0 0    0"
        blank = Elements(name, one + str(checksum(one + "0")), f"2 {number:05d}" + " " * 56 + "    00")
        found.append(_with(blank, stamp, np.array([motion, 0.0, 0.0, shell.inclination_deg, node, along])))
    return tuple(found)


def _osculating(states: Ephemeris) -> Float:
    """[S, 6] at the first instant: revolutions a day, e cos w, e sin w, and in degrees inclination, node, w + M."""
    r, v = states.position_km[0], states.velocity_km_s[0]
    radius = np.linalg.norm(r, axis=-1)
    momentum = np.cross(r, v)
    pole = momentum / np.linalg.norm(momentum, axis=-1)[:, None]
    node = np.arctan2(pole[:, 0], -pole[:, 1])
    to_node = np.stack([np.cos(node), np.sin(node), np.zeros_like(node)], axis=-1)
    ahead = np.cross(pole, to_node)
    axis = 1.0 / (2.0 / radius - (v * v).sum(-1) / EARTH_MU_KM3_S2)
    shape = np.cross(v, momentum) / EARTH_MU_KM3_S2 - r / radius[:, None]
    ex, ey = (shape * to_node).sum(-1), (shape * ahead).sum(-1)
    e, perigee = np.hypot(ex, ey), np.arctan2(ey, ex)
    true = np.arctan2((r * ahead).sum(-1), (r * to_node).sum(-1)) - perigee
    eccentric = 2.0 * np.arctan2(np.sqrt(1.0 - e) * np.sin(true / 2.0), np.sqrt(1.0 + e) * np.cos(true / 2.0))
    along = perigee + eccentric - e * np.sin(eccentric)
    motion = np.sqrt(EARTH_MU_KM3_S2 / axis**3) * 86_400.0 / (2.0 * np.pi)
    tilt = np.arccos(np.clip(pole[:, 2], -1.0, 1.0))
    return np.stack([motion, ex, ey, np.degrees(tilt), np.degrees(node), np.degrees(along)], axis=-1)


def _with(one: Elements, stamp: str, values: Float) -> Elements:
    """A set with another epoch and other elements, as `_osculating` orders them."""
    motion, ex, ey, tilt, node, along = (float(value) for value in values)
    e = min(max(round(float(np.hypot(ex, ey)) * 1e7), 1), 9_999_999)  # PyEphem, under Hypatia, fails at 0
    perigee = _angle(np.degrees(np.arctan2(ey, ex)))
    first = one.line1[:18] + stamp + one.line1[32:68]
    second = (
        f"2 {one.line2[2:7]} {abs(tilt):8.4f} {_angle(node):8.4f} {e:07d} {perigee:8.4f}"
        f" {_angle(along - perigee):8.4f} {motion:11.8f}{one.line2[63:68]}"
    )
    lines = [text + str(checksum(text + "0")) for text in (first, second)]
    return replace(one, line1=lines[0], line2=lines[1])


def _angle(degrees: float) -> float:
    return round(degrees % 360.0, 4) % 360.0
