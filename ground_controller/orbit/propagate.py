"""Positions from element sets by SGP4. The one file that imports the sgp4 library."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sgp4.api import SGP4_ERRORS, Satrec, SatrecArray

from ground_controller.orbit.elements import Elements
from ground_controller.orbit.instant import julian_date
from hil_config.errors import DataFileError

FRAME = "TEME of date"
"""True equator, mean equinox: the frame SGP4 answers in (Vallado et al., AIAA 2006-6753)."""


class Ephemeris(NamedTuple):
    """Positions [N, S, 3] in km and velocities [N, S, 3] in km/s, float64, in `FRAME`."""

    position_km: NDArray[np.float64]
    velocity_km_s: NDArray[np.float64]


def positions(elements: Sequence[Elements], epoch: datetime, offset_s: NDArray[np.float64]) -> Ephemeris:
    """Where S satellites are at N instants.

    Args:
        elements: S element sets.
        epoch: instant of offset 0, aware, UTC.
        offset_s: [N] seconds after `epoch`.

    Raises:
        DataFileError: SGP4 cannot carry a set to one of the instants (decayed, eccentricity out of range...).
    """
    day, fraction = julian_date(epoch)
    whole = np.full(offset_s.shape, day, dtype=np.float64)
    part = fraction + np.asarray(offset_s, dtype=np.float64) / 86_400.0
    satellites = SatrecArray([Satrec.twoline2rv(one.line1, one.line2) for one in elements])
    codes, position, velocity = satellites.sgp4(whole, part)
    if codes.any():
        satellite, sample = (int(index) for index in np.argwhere(codes)[0])
        code = int(codes[satellite, sample])
        one = elements[satellite]
        at = f" in line {one.line}" if one.line else ""
        raise DataFileError(
            f"elements of {one.name!r}{at} (epoch {one.epoch:%Y-%m-%dT%H:%M:%SZ}) cannot be carried to"
            f" {float(offset_s[sample]):.1f} s after {epoch:%Y-%m-%dT%H:%M:%SZ}:"
            f" SGP4 error {code}, {SGP4_ERRORS.get(code, 'unknown')}",
            "use an element set closer to the epoch, or another satellite",
        )
    return Ephemeris(
        np.ascontiguousarray(np.swapaxes(position, 0, 1)), np.ascontiguousarray(np.swapaxes(velocity, 0, 1))
    )


def left_out(elements: Sequence[Elements], epoch: datetime, offsets_s: Sequence[float]) -> dict[str, str]:
    """Names of sets that SGP4 cannot carry to one of the instants, each with the reason."""
    if not elements:
        return {}
    day, fraction = julian_date(epoch)
    part = fraction + np.asarray(offsets_s, dtype=np.float64) / 86_400.0
    satellites = SatrecArray([Satrec.twoline2rv(one.line1, one.line2) for one in elements])
    codes, _, _ = satellites.sgp4(np.full(part.shape, day), part)
    worst = codes.max(axis=1)
    return {
        elements[i].name: f"line {elements[i].line}: SGP4 error {worst[i]}, {SGP4_ERRORS.get(int(worst[i]), 'unknown')}"
        for i in np.nonzero(worst)[0].tolist()
    }
