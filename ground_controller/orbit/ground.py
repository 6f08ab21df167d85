"""Ground stations: where a satellite stands in their sky, behind which mask, at what Doppler, and which is chosen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.earth import ROTATION_RAD_S, place_km, turned, vertical
from hil_config.errors import ConfigError
from hil_config.units import SPEED_OF_LIGHT_M_S

Float = NDArray[np.float64]
Rule = Literal["all", "nearest", "longest_visible"]


@dataclass(frozen=True)
class GroundStation:
    """A place on WGS-84.

    `mask`: (azimuth, least elevation) in degrees, by rising azimuth, linear between and round through north;
    without one `min_elevation_deg` holds everywhere, with one it is the least of all.
    """

    name: str
    latitude_deg: float
    longitude_deg: float
    height_m: float = 0.0
    min_elevation_deg: float = 10.0
    mask: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for what, found, least, most in (
            ("latitude_deg", self.latitude_deg, -90.0, 90.0), ("longitude_deg", self.longitude_deg, -180.0, 360.0),
            ("height_m", self.height_m, -500.0, 10_000.0), ("min_elevation_deg", self.min_elevation_deg, -5.0, 90.0),
        ):  # fmt: skip
            if not math.isfinite(found) or not least <= found <= most:
                raise ConfigError(f"station {self.name!r}: {what} is {found}, wanted {least:g} to {most:g}")
        azimuths = [azimuth for azimuth, _ in self.mask]
        if any(not 0.0 <= a < 360.0 for a in azimuths) or azimuths != sorted(set(azimuths)):
            raise ConfigError(f"station {self.name!r}: mask azimuths {azimuths}: wanted rising, from 0 to below 360")
        if any(not -5.0 <= e <= 90.0 for _, e in self.mask):
            raise ConfigError(f"station {self.name!r}: a mask elevation is outside -5 to 90")

    def least_elevation_deg(self, azimuth_deg: Float) -> Float:
        """[...] least elevation towards each azimuth."""
        if not self.mask:
            return np.full(np.shape(azimuth_deg), self.min_elevation_deg)
        azimuth, least = np.array(self.mask, dtype=np.float64).T
        found = np.interp(azimuth_deg, azimuth, least, period=360.0)
        return np.asarray(np.maximum(found, self.min_elevation_deg))


class Look(NamedTuple):
    """The sky of a station, each [...]: degrees from north over east, degrees, km, km/s (above 0: going away)."""

    azimuth_deg: Float
    elevation_deg: Float
    range_km: Float
    range_rate_km_s: Float


def look(station: GroundStation, position_km: Float, velocity_km_s: Float, sidereal_rad: Float) -> Look:
    """Where satellites stand.

    Args:
        position_km, velocity_km_s: [T, S, 3] inertial (TEME); sidereal_rad: [T].
    """
    angle = sidereal_rad[:, None]
    fixed = turned(position_km, angle)
    moving = turned(velocity_km_s, angle)
    # seen from the turning Earth: v - omega x r
    turning = np.stack([-fixed[..., 1], fixed[..., 0], np.zeros_like(fixed[..., 0])], axis=-1) * ROTATION_RAD_S
    away = fixed - place_km(station.latitude_deg, station.longitude_deg, station.height_m / 1e3)
    up = vertical(station.latitude_deg, station.longitude_deg)
    longitude = math.radians(station.longitude_deg)
    east = np.array([-math.sin(longitude), math.cos(longitude), 0.0])
    north = np.cross(up, east)
    distance = np.linalg.norm(away, axis=-1)
    rate = np.einsum("...i,...i->...", away, moving - turning) / distance
    elevation = np.degrees(np.arcsin(np.clip(away @ up / distance, -1.0, 1.0)))
    azimuth = np.mod(np.degrees(np.arctan2(away @ east, away @ north)), 360.0)
    return Look(azimuth, elevation, distance, rate)


def in_view(station: GroundStation, seen: Look, max_range_km: float = math.inf) -> NDArray[np.bool_]:
    """True where a satellite is above the mask and in range."""
    above = seen.elevation_deg >= station.least_elevation_deg(seen.azimuth_deg)
    return np.asarray(above & (seen.range_km <= max_range_km))


def doppler_hz(range_rate_km_s: Float, carrier_hz: float) -> Float:
    """Received minus sent frequency, to first order in v/c: below 0 while the satellite goes away."""
    return np.asarray(-range_rate_km_s * 1e3 / SPEED_OF_LIGHT_M_S * carrier_hz)


class Choice:
    """Which visible satellites a station has links to, asked in pieces of time and the same as over the whole.

    `nearest`: the nearest at each instant. `longest_visible`: at a loss the one that will stay longest in view
    (Hypatia's issue 23), kept until it sets; ties go to the lower index. The end of the samples ends all views.
    Every piece is foreseen before the first is asked for.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._stays: NDArray[np.int64] | None = None
        self._longest: list[NDArray[np.int64]] = []
        self._held = -1

    @property
    def looks_ahead(self) -> bool:
        """False: nothing needs to be foreseen."""
        return self._rule == "longest_visible"

    def foresee(self, visible: NDArray[np.bool_]) -> None:
        """Take note of a piece [T, S], the last one first."""
        stays = np.zeros(visible.shape[1], np.int64) if self._stays is None else self._stays
        longest = np.full(visible.shape[0], -1, np.int64)
        for n in range(visible.shape[0] - 1, -1, -1):
            stays = np.where(visible[n], stays + 1, 0)
            if stays.any():
                longest[n] = np.argmax(stays)
        self._stays = stays
        self._longest.append(longest)

    def links(self, visible: NDArray[np.bool_], range_km: Float) -> NDArray[np.bool_]:
        """The links [T, S] of a piece, the first one first."""
        if self._rule == "all":
            return visible
        out = np.zeros_like(visible)
        if self._rule == "nearest":
            rows = np.nonzero(visible.any(axis=1))[0]
            out[rows, np.argmin(np.where(visible[rows], range_km[rows], np.inf), axis=1)] = True
            return out
        for n, longest in enumerate(self._longest.pop().tolist()):
            if self._held < 0 or not visible[n, self._held]:
                self._held = longest
            if self._held >= 0:
                out[n, self._held] = True
        return out


def crossings(above: Callable[[float], float], time_s: Float, tolerance_s: float = 1e-3) -> list[tuple[float, bool]]:
    """When a quantity passes 0 between samples, by bisection: (second, True if it rises).

    Args:
        above: the quantity at a second, 0 or more counts as above.
        time_s: [N] rising seconds; the quantity passes 0 at most once between two of them.
    """
    found = []
    before, low = above(float(time_s[0])) >= 0.0, float(time_s[0])
    for high in time_s[1:].tolist():
        after = above(high) >= 0.0
        if after != before:
            left, right = low, high
            while right - left > tolerance_s:
                middle = 0.5 * (left + right)
                left, right = (left, middle) if (above(middle) >= 0.0) == after else (middle, right)
            found.append((right, after))
        before, low = after, high
    return found
