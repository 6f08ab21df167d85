"""The orbit around a run, from its schedule file: ground tracks, links that are up, the place under the Sun."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.earth import below, sidereal_angle_rad, turned
from ground_controller.orbit.instant import TERRESTRIAL_MINUS_UTC_S, julian_date, parse_instant
from ground_controller.orbit.sunlight import sun
from hil_config.wire.schedule_file import map_schedule

NAME = "schedule.hsched"
MOST_POINTS = 60_000
"""Of all ground tracks together, sent once."""

Float = NDArray[np.float64]


class Sky:
    """Everything is modelled. `pairs`: unordered, indices into `names`; `track_s` [N] with `latitude_deg` and
    `longitude_deg` [N, S] under the satellites (N is 0 for schedules without tracks, such as contact plans)."""

    def __init__(self, path: Path) -> None:
        schedule = self._schedule = map_schedule(path)
        head = schedule.header
        self.names = head.satellites
        self._epoch = parse_instant(head.epoch_utc)
        where = {name: i for i, name in enumerate(head.satellites)}
        ordered = [(where[a], where[b]) for a, b in head.pairs]
        self.pairs = sorted({(min(pair), max(pair)) for pair in ordered})
        number = {pair: i for i, pair in enumerate(self.pairs)}
        self._pair_of = np.array([number[min(pair), max(pair)] for pair in ordered], np.int64)
        self._up = np.zeros(len(ordered), np.bool_)
        self._done = 0
        self.track_s, self.latitude_deg, self.longitude_deg = self._tracks()

    def _tracks(self) -> tuple[Float, Float, Float]:
        count = max(1, len(self.names))
        if self._schedule.arrays.track_time_s.size < 2:
            return np.empty(0), np.empty((0, count)), np.empty((0, count))
        duration_s = self._schedule.duration_s
        points = int(np.clip(MOST_POINTS // count, 2, max(2, round(duration_s / 5.0) + 1)))
        time_s = np.linspace(0.0, duration_s, points)
        fixed = turned(self._schedule.position_km(time_s), self._sidereal_rad(time_s)[:, None])
        latitude, longitude = below(fixed)
        return time_s, latitude, longitude

    def _sidereal_rad(self, time_s: Float) -> Float:
        day, fraction = julian_date(self._epoch)
        return sidereal_angle_rad(day + fraction + time_s / 86_400.0)

    def links_up(self, scenario_s: float) -> NDArray[np.int64]:
        """Indices of the pairs that have a path in one direction at least."""
        links = self._schedule.arrays.links
        until = int(np.searchsorted(links["time_s"], scenario_s, side="right"))
        if until < self._done:
            self._up[:], self._done = False, 0
        rows = links[self._done : until]
        self._up[rows["pair"]] = rows["up"] > 0
        self._done = until
        return np.unique(self._pair_of[self._up])

    def under_sun_deg(self, scenario_s: float) -> tuple[float, float]:
        """Latitude and longitude of the place where the Sun stands overhead."""
        day, fraction = julian_date(self._epoch + timedelta(seconds=scenario_s))
        found = sun(np.array([day + fraction + TERRESTRIAL_MINUS_UTC_S / 86_400.0]))
        angle_deg = float(np.degrees(sidereal_angle_rad(day + fraction)))
        longitude = (float(found.right_ascension_deg[0]) - angle_deg + 540.0) % 360.0 - 180.0
        return float(found.declination_deg[0]), longitude
