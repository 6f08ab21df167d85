"""Walker shells: circular orbits spread evenly, delta (360 degrees) or star (180), moved as two bodies.

Walker (1984): T satellites in P planes with phasing F; plane p has its node at p * spread / P, and its satellite
s stands at (s + p F / P) / (T / P) of a turn. Names are P<plane>S<slot>, both from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ground_controller.orbit.visibility import EARTH_RADIUS_KM
from hil_config.errors import ConfigError

EARTH_MU_KM3_S2 = 398_600.8
"""WGS-72, as in SGP4."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class WalkerShell:
    """A shell at the scenario's epoch.

    Args:
        phasing: Walker's F, 0 to planes - 1. It may be a fraction: P / 2 makes odd planes stand half a slot on.
        node_deg, anomaly_deg: of plane 0 and its satellite 0 at the epoch.
    """

    altitude_km: float
    inclination_deg: float
    planes: int
    per_plane: int
    phasing: float = 0.0
    pattern: Literal["delta", "star"] = "delta"
    node_deg: float = 0.0
    anomaly_deg: float = 0.0
    name: str = ""

    def __post_init__(self) -> None:
        where = f"Walker shell {self.name!r}" if self.name else "Walker shell"
        if self.pattern not in {"delta", "star"}:
            raise ConfigError(f"{where}: pattern is {self.pattern!r}, wanted 'delta' or 'star'")
        for what, found, least, most in (
            ("altitude_km", self.altitude_km, 100.0, 100_000.0), ("inclination_deg", self.inclination_deg, 0.0, 180.0),
            ("planes", self.planes, 1, 1_000), ("per_plane", self.per_plane, 1, 1_000),
            ("phasing", self.phasing, 0.0, max(0.0, self.planes - 1e-9)), ("node_deg", self.node_deg, -360.0, 360.0),
            ("anomaly_deg", self.anomaly_deg, -360.0, 360.0),
        ):  # fmt: skip
            if not math.isfinite(found) or not least <= found <= most:
                raise ConfigError(f"{where}: {what} is {found}, wanted {least:g} to {most:g}")

    @property
    def count(self) -> int:
        return self.planes * self.per_plane

    @property
    def names(self) -> tuple[str, ...]:
        """Plane by plane."""
        head = f"{self.name}-" if self.name else ""
        return tuple(f"{head}P{p:02d}S{s:02d}" for p in range(self.planes) for s in range(self.per_plane))

    @property
    def motion_rad_s(self) -> float:
        """Mean motion of two bodies."""
        return math.sqrt(EARTH_MU_KM3_S2 / (EARTH_RADIUS_KM + self.altitude_km) ** 3)

    @property
    def period_s(self) -> float:
        return 2.0 * math.pi / self.motion_rad_s

    def states(self, offset_s: Float) -> tuple[Float, Float]:
        """Positions [N, S, 3] in km and velocities in km/s, inertial, at N seconds after the epoch."""
        p = np.repeat(np.arange(self.planes), self.per_plane)
        s = np.tile(np.arange(self.per_plane), self.planes)
        spread = 2.0 * np.pi if self.pattern == "delta" else np.pi
        node = np.radians(self.node_deg) + p * (spread / self.planes)
        turn = (s + p * self.phasing / self.planes) / self.per_plane
        at = np.radians(self.anomaly_deg) + 2.0 * np.pi * turn
        angle = at[None, :] + self.motion_rad_s * np.asarray(offset_s, dtype=np.float64)[:, None]
        tilt, radius = math.radians(self.inclination_deg), EARTH_RADIUS_KM + self.altitude_km
        to_node = np.stack([np.cos(node), np.sin(node), np.zeros_like(node)], -1)
        ahead = np.stack(
            [-np.sin(node) * math.cos(tilt), np.cos(node) * math.cos(tilt), np.full_like(node, math.sin(tilt))], -1
        )
        c, s_ = np.cos(angle)[..., None], np.sin(angle)[..., None]
        return radius * (c * to_node + s_ * ahead), radius * self.motion_rad_s * (c * ahead - s_ * to_node)

    def grid(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """+Grid: the ends of the links of each satellite to the next in its plane and to the same slot of the
        next plane. The last plane of a delta shell meets the first at the slot that stands nearest; the two
        counter-rotating planes of a star's seam have no link.
        """
        p = np.repeat(np.arange(self.planes), self.per_plane)
        s = np.tile(np.arange(self.per_plane), self.planes)
        links: set[tuple[int, int]] = set()
        for plane, slot in zip(p.tolist(), s.tolist(), strict=True):
            here = plane * self.per_plane + slot
            ends = [plane * self.per_plane + (slot + 1) % self.per_plane]
            if plane + 1 < self.planes:
                ends.append((plane + 1) * self.per_plane + slot)
            elif self.pattern == "delta":
                # after all planes the pattern has advanced by F slots
                ends.append((slot + round(self.phasing)) % self.per_plane)
            links.update((min(here, end), max(here, end)) for end in ends if end != here)
        a, b = zip(*sorted(links), strict=True) if links else ((), ())
        return np.array(a, np.int64), np.array(b, np.int64)
