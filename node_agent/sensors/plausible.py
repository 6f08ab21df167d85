"""Whether a reading can be true: in range, not jumping, not stuck while the load changes. Pure.

A stuck sensor can only be told from a steady board when the load moves: a value that stays exactly the same while
the processor load has swung by `LOAD_SWING` percent for `stuck_s` seconds is refused until it changes. Power follows
the load at once; a die needs seconds, and its sensors have steps of up to 1 C. A rail that is switched off takes 0 W
whatever the load; a board does not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity

BOARD = "power_w"
LOAD_SWING = 25.0
"""Percent of all cores."""


class Bounds(NamedTuple):
    """Plausible values. Between two readings a value may move by `step` plus `per_s` times the seconds between them."""

    least: float
    most: float
    step: float = math.inf
    per_s: float = math.inf
    stuck_s: float = math.inf


BY_UNIT: dict[str, Bounds] = {
    "W": Bounds(0.0, 500.0, stuck_s=4.0),
    "V": Bounds(0.0, 60.0),
    "A": Bounds(-50.0, 50.0),
    "C": Bounds(-60.0, 150.0, step=10.0, per_s=50.0, stuck_s=30.0),
    "%": Bounds(0.0, 25_600.0),
    "MB": Bounds(0.0, 1e7),
}
_ANY = Bounds(-math.inf, math.inf)


class Plausible:
    """The judge of one quantity. Modelled values are not tested for being stuck."""

    def __init__(self, quantity: Quantity) -> None:
        self._name, self._unit = quantity.name, quantity.unit
        self._bounds = BY_UNIT.get(quantity.unit, _ANY)
        self._may_stick = quantity.provenance.kind != "measured"
        self._last: tuple[float, float] | None = None
        self._since_s = 0.0
        self._load = (math.inf, -math.inf)

    def check(self, value: float, at_s: float, load_percent: float) -> float:
        """The value itself, or HardwareError with what is wrong with it.

        Args:
            at_s: monotonic time of the reading.
            load_percent: processor load of the whole board now.
        """
        bounds = self._bounds
        if not math.isfinite(value):
            raise HardwareError(f"{self._name}: {value} is not a number")
        if not bounds.least <= value <= bounds.most:
            raise HardwareError(
                f"{self._name}: {value:g} {self._unit} is out of range {bounds.least:g} to {bounds.most:g}"
            )
        last, self._last = self._last, (value, at_s)
        if last is None or last[0] != value:
            self._since_s, self._load = at_s, (load_percent, load_percent)
        else:
            self._load = (min(self._load[0], load_percent), max(self._load[1], load_percent))
        if last is not None and abs(value - last[0]) > bounds.step + bounds.per_s * (at_s - last[1]):
            raise HardwareError(
                f"{self._name}: from {last[0]:g} to {value:g} {self._unit} in {at_s - last[1]:.3f} s is not plausible"
            )
        held_s, swing = at_s - self._since_s, self._load[1] - self._load[0]
        may_stick = self._may_stick or (value == 0.0 and self._name != BOARD)
        if not may_stick and held_s >= bounds.stuck_s and swing >= LOAD_SWING:
            raise HardwareError(
                f"{self._name}: stuck at {value:g} {self._unit} for {held_s:.1f} s while the load moved {swing:.0f} %"
            )
        return value
