"""What a schedule looks like over time: the numbers behind its terminal summary, page and picture."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.earth import below, sidereal_angle_rad, turned
from ground_controller.orbit.instant import julian_date, parse_instant
from hil_config.wire.link_schedule import LinkSchedule
from hil_config.wire.link_state import LinkSamples

MOST_SAMPLES = 2_000

Float = NDArray[np.float64]

_SHOWN = ("time_s", "delay_s", "delay_drift", "rate_bit_s", "loss", "hops", "up")


@dataclass(frozen=True)
class Picture:
    """A schedule at N evenly spaced instants.

    `latitude_deg`, `longitude_deg`: [N, S] under the satellites, empty without tracks. `sunlight`, `array_w`: [N, S].
    `links`: pairs of names as `listed` gives them; `columns`: where each is in `samples`.
    """

    epoch: datetime
    time_s: Float
    names: tuple[str, ...]
    samples: LinkSamples
    links: tuple[tuple[str, str], ...]
    columns: tuple[int, ...]
    sunlight: Float
    array_w: Float
    latitude_deg: Float
    longitude_deg: Float


@dataclass(frozen=True)
class Contact:
    """One pair of those that `listed` gives, up from `start_s` to `end_s`."""

    pair: tuple[str, str]
    start_s: float
    end_s: float


def picture_of(schedule: LinkSchedule, most: int = MOST_SAMPLES) -> Picture:
    """Sample a schedule for looking at; at its own step where that is coarse enough."""
    head = schedule.header
    count = int(min(most, max(2, round(head.duration_s / head.step_s) + 1)))
    time_s = np.linspace(0.0, head.duration_s, count)
    links = listed(schedule)
    epoch = parse_instant(head.epoch_utc)
    light = np.array([[schedule.illumination(name, t) for name in head.satellites] for t in time_s.tolist()])
    power = np.array([[schedule.array_power_w(name, t) for name in head.satellites] for t in time_s.tolist()])
    latitude = longitude = np.empty((0, len(head.satellites)))
    if schedule.arrays.track_time_s.size > 1:
        day, fraction = julian_date(epoch)
        angle = sidereal_angle_rad(day + fraction + time_s / 86_400.0)
        latitude, longitude = below(turned(schedule.position_km(time_s), angle[:, None]))
    return Picture(
        epoch, time_s, head.satellites, schedule.sample(time_s), tuple(links), tuple(links.values()), light, power,
        latitude, longitude,
    )  # fmt: skip


def listed(schedule: LinkSchedule) -> dict[tuple[str, str], int]:
    """Pairs to show and the column of each, in the order of columns: (from, to) where the way back differs, else both
    ways as one, by their names' order."""
    rows, ends = _by_pair(schedule)
    columns = {pair: column for column, pair in enumerate(schedule.header.pairs)}
    found: dict[tuple[str, str], int] = {}
    for (a, b), column in columns.items():
        back = columns.get((b, a))
        here = rows[ends[column] : ends[column + 1]]
        alike = back is not None and all(
            np.array_equal(here[name], rows[ends[back] : ends[back + 1]][name]) for name in _SHOWN
        )
        found.setdefault((min(a, b), max(a, b)) if alike else (a, b), column)
    return found


def contacts_of(schedule: LinkSchedule) -> list[Contact]:
    """When each pair of `listed` has a path, from its records (not from samples), in the order of pairs and time."""
    rows, ends = _by_pair(schedule)
    found = []
    for pair, column in listed(schedule).items():
        here = rows[ends[column] : ends[column + 1]]
        begun: float | None = None
        for time_s, up in zip(here["time_s"].tolist(), here["up"].tolist(), strict=True):
            if up and begun is None:
                begun = time_s
            elif not up and begun is not None:
                found.append(Contact(pair, begun, time_s))
                begun = None
        if begun is not None:
            found.append(Contact(pair, begun, schedule.header.duration_s))
    return found


def _by_pair(schedule: LinkSchedule) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """Records by pair and time; those of pair p are `ends[p]` to `ends[p + 1]`."""
    links = schedule.arrays.links
    rows = links[np.argsort(links["pair"], kind="stable")]
    return rows, np.searchsorted(rows["pair"], np.arange(len(schedule.header.pairs) + 1))


def wrapped(latitude: Float, longitude: Float) -> tuple[list[float | None], list[float | None]]:
    """One ground track [N] with a gap (None) wherever it leaves the map on one side and enters on the other."""
    x: list[float | None] = []
    y: list[float | None] = []
    for n, (lat, lon) in enumerate(zip(latitude.tolist(), longitude.tolist(), strict=True)):
        if n and abs(lon - longitude[n - 1]) > 180.0:
            x.append(None)
            y.append(None)
        x.append(round(lon, 3))
        y.append(round(lat, 3))
    return x, y
