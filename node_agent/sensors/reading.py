"""What a sensor driver is: an instrument, the quantities it reports, and one function that reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hil_config.errors import HardwareError
from hil_config.wire.messages import Quantity


def _nothing() -> None:
    return None


class Instrument(NamedTuple):
    """One thing that measures (or models).

    `read()` gives one value per quantity, in their units and order, or raises HardwareError with the reason.
    `where` is the path, program or port it was found at. `slow`: a reading may take longer than a sample
    period, so it gets its own thread.
    """

    driver: str
    where: str
    quantities: tuple[Quantity, ...]
    read: Callable[[], tuple[float, ...]]
    close: Callable[[], None] = _nothing
    slow: bool = False


class Absent(HardwareError):
    """The instrument is not on this board; the message says where it was looked for."""
