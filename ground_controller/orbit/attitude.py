"""How an array faces the Sun: the cosine of incidence for three ways of mounting it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.sunlight import AU_KM
from ground_controller.physics.solar import solar_power_w
from hil_config.errors import ConfigError

Float = NDArray[np.float64]
Mount = Literal["sun", "one_axis", "zenith"]


@dataclass(frozen=True)
class Array:
    """A solar array: area, efficiency of all (cells, packing, degradation), and how it is mounted.

    `sun`: follows the Sun in both axes. `one_axis`: turns about the orbit's normal (usual on nadir-pointing
    buses), so that cos = cos(beta). `zenith`: fixed on the face away from the Earth.
    """

    area_m2: float = 0.13
    efficiency: float = 0.26
    mount: Mount = "sun"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.area_m2) and self.area_m2 >= 0.0 and 0.0 <= self.efficiency <= 1.0):
            raise ConfigError(f"array: area_m2 {self.area_m2}, efficiency {self.efficiency}: wanted 0 or more, 0 to 1")
        if self.mount not in {"sun", "one_axis", "zenith"}:
            raise ConfigError(f"array: mount is {self.mount!r}, wanted sun, one_axis or zenith")


def cos_incidence(mount: Mount, position_km: Float, velocity_km_s: Float, sun_km: Float) -> Float:
    """[T, S] cosine between array normal and Sun, 0 where the Sun is behind the array; 0 to 1.

    Args:
        position_km, velocity_km_s: [T, S, 3]; sun_km: [T, 3]; one inertial frame.
    """
    if mount == "sun":
        return np.ones(position_km.shape[:-1])
    to_sun = sun_km[:, None, :] - position_km
    to_sun /= np.linalg.norm(to_sun, axis=-1, keepdims=True)
    if mount == "zenith":
        up = position_km / np.linalg.norm(position_km, axis=-1, keepdims=True)
        return np.asarray(np.maximum(np.einsum("...i,...i->...", up, to_sun), 0.0))
    normal = np.cross(position_km, velocity_km_s)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    sine = np.einsum("...i,...i->...", normal, to_sun)
    return np.asarray(np.sqrt(np.maximum(1.0 - sine * sine, 0.0)))


def array_power_w(array: Array, lit: Float, position_km: Float, velocity_km_s: Float, sun_km: Float) -> Float:
    """[T, S] modelled power; `lit`: [T, S] share of the Sun's disc."""
    facing = cos_incidence(array.mount, position_km, velocity_km_s, sun_km)
    distance_au = np.linalg.norm(sun_km, axis=-1)[:, None] / AU_KM
    return solar_power_w(lit, distance_au, array.area_m2, array.efficiency, facing)
