"""Values that a format can say only in whole units."""

from __future__ import annotations

import math
from typing import Literal

from hil_config.errors import DataFileError

_SLACK = 1e-9


def whole(value: float, what: str, direction: Literal["up", "down"] | None) -> int:
    """`value` as a whole number, rounded in `direction`; DataFileError if it is not whole and none is given."""
    nearest = round(value)
    if abs(value - nearest) <= _SLACK * max(1.0, abs(value)):
        return nearest
    if direction is None:
        raise DataFileError(
            f"{what} is {value:g}, and the format knows whole numbers only",
            "give --round: times inward, delays up, rates down",
        )
    return math.ceil(value) if direction == "up" else math.floor(value)


def rounded_away(start_s: float, end_s: float) -> bool:
    """Whether nothing is left of a time between two instants that are rounded inward to whole seconds."""
    return whole(end_s, "an end in s", "down") <= whole(start_s, "a start in s", "up")
