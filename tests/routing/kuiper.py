"""Kuiper-630 as Hypatia builds it: 34 x 34 satellites, 51.9 degrees, 14.80 revolutions a day, +Grid."""

from __future__ import annotations

import math
from datetime import datetime, timezone

import numpy as np

from ground_controller.orbit.constellation import Constellation
from ground_controller.orbit.earth import sidereal_angle_rad
from ground_controller.orbit.elements import Elements, checksum
from ground_controller.orbit.ground import GroundStation, look
from ground_controller.orbit.instant import julian_date
from ground_controller.routing.shortest import Graph, undirected

PLANES = PER_PLANE = 34
EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
ALTITUDE_KM = 630.0
MAX_GSL_KM = ALTITUDE_KM / math.sin(math.radians(30.0))
"""1,260 km: the edge of a cone of 30 degrees over a flat Earth, as Hypatia has it."""

MANILA = GroundStation("Manila", 14.6042, 120.9822)
DALIAN = GroundStation("Dalian", 38.913811, 121.602322)


def elements() -> tuple[Elements, ...]:
    """Two-line sets with the decimals that Hypatia writes; odd planes stand half a step on."""
    found = []
    for number in range(PLANES * PER_PLANE):
        plane, slot = divmod(number, PER_PLANE)
        node, anomaly = plane * 360.0 / PLANES, (slot + 0.5 * (plane % 2)) * 360.0 / PER_PLANE
        one = f"1 {number + 1:05d}U 00000ABC 00001.00000000  .00000000  00000-0  00000+0 0    0"
        two = f"2 {number + 1:05d}  51.9000 {node:8.4f} 0000001   0.0000 {anomaly:8.4f} 14.80000000    0"
        found.append(Elements(f"Kuiper-630 {number}", one + str(checksum(one + "0")), two + str(checksum(two + "0"))))
    return tuple(found)


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Ends of the +Grid: the next in the plane, and the same slot of the next plane, the last joined to the first."""
    number = np.arange(PLANES * PER_PLANE)
    plane, slot = number // PER_PLANE, number % PER_PLANE
    return (
        np.r_[number, number],
        np.r_[plane * PER_PLANE + (slot + 1) % PER_PLANE, (plane + 1) % PLANES * PER_PLANE + slot],
    )  # fmt: skip


def graph() -> Graph:
    return undirected(PLANES * PER_PLANE, *grid())


def constellation() -> Constellation:
    return Constellation(EPOCH, elements())


def lengths_km(
    satellites: Constellation, offset_s: np.ndarray, stations: tuple[GroundStation, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the links [T, L] and to the stations [T, G, S] (infinity: out of range) at offsets from the epoch."""
    states = satellites.states(offset_s)
    a, b = grid()
    isl = np.linalg.norm(states.position_km[:, a] - states.position_km[:, b], axis=-1)
    day, fraction = julian_date(EPOCH)
    turn = sidereal_angle_rad(day + fraction + offset_s / 86_400.0)
    ground = np.stack([look(one, *states, turn).range_km for one in stations], axis=1)
    return isl, np.where(ground <= MAX_GSL_KM, ground, np.inf)
