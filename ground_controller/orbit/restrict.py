"""A schedule cut down to some of its satellites: what a node needs that has links to no others."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from hil_config.wire.link_schedule import LinkSchedule, ScheduleArrays


def restricted(schedule: LinkSchedule, satellites: tuple[str, ...], at: str = "") -> LinkSchedule:
    """Links, sunlight and tracks of `satellites` alone; with `at` no links but that satellite's own. Which others a
    path went over is left out, its delay is not."""
    head, arrays = schedule.header, schedule.arrays
    wanted = frozenset(satellites)
    place = [i for i, name in enumerate(head.satellites) if name in wanted]
    pairs = [i for i, pair in enumerate(head.pairs) if wanted.issuperset(pair) and (not at or at in pair)]
    lights = _kept(arrays.lights, "satellite", place, len(head.satellites))
    links = _kept(arrays.links, "pair", pairs, len(head.pairs))
    links["route"] = 0
    stations = sum(i >= len(head.satellites) - head.stations for i in place)
    return LinkSchedule(
        msgspec.structs.replace(
            head, satellites=tuple(head.satellites[i] for i in place), stations=stations,
            pairs=tuple(head.pairs[i] for i in pairs), nodes=(),
        ),
        ScheduleArrays(
            links, lights, arrays.track_time_s,
            arrays.track_position_km[:, place], arrays.track_velocity_km_s[:, place],
            np.zeros(2, np.uint32), np.zeros(0, np.uint32),
        ),
    )  # fmt: skip


def _kept(rows: NDArray[np.void], column: str, kept: list[int], count: int) -> NDArray[np.void]:
    """The rows [K] of the things `kept` of `count`, numbered anew, in their order."""
    number = np.full(count, -1)
    number[kept] = np.arange(len(kept))
    found: NDArray[np.void] = rows[number[rows[column]] >= 0].copy()
    found[column] = number[found[column]]
    return found
