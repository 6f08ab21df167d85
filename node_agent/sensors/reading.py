"""What a sensor driver is: a quantity it describes and a function that reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity


class Sensor(NamedTuple):
    """`read()` gives the value in the quantity's unit, or raises HardwareError with the reason."""

    quantity: Quantity
    read: Callable[[], float]


class Absent(HardwareError):
    """The sensor is not on this board; the message says where it was looked for."""
