"""Read every meter of a bench at the same time."""

from __future__ import annotations

import importlib
import math
import statistics
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import msgspec

from firmware_tools.meter.spec import Meter, Reader, meter_of
from hil_config.errors import HardwareError
from hil_config.wire.provenance import Provenance

if TYPE_CHECKING:
    from firmware_tools.broker_watch import BrokerWatch
    from hil_config.schema.bench import Bench

READERS: dict[str, str] = {
    "command": "firmware_tools.meter.command",
    "korad": "firmware_tools.meter.korad",
    "scpi": "firmware_tools.meter.scpi",
    "shelly": "firmware_tools.meter.shelly",
    "tasmota": "firmware_tools.meter.tasmota",
}
"""By `via`; an agent's meter is read at the broker."""

LEAST, PERIOD_S = 4, 0.2
SUMMARY_S = 10.0
"""An agent says its watts once a second."""


class Readings(msgspec.Struct, frozen=True):
    """What one channel said over a while. `watts`: in the order of time, at least one."""

    watts: tuple[float, ...]
    provenance: Provenance

    @property
    def mean_w(self) -> float:
        return statistics.fmean(self.watts)

    @property
    def median_w(self) -> float:
        return statistics.median(self.watts)

    @property
    def spread_w(self) -> float:
        """Highest less lowest."""
        return max(self.watts) - min(self.watts)


class Meters:
    """The channels of a bench, by board. Args: `watch`, its broker; without it agents' meters are left out."""

    def __init__(self, bench: Bench, watch: BrokerWatch | None) -> None:
        found = [meter for board in bench.boards if (meter := meter_of(board)) is not None]
        self.channels = {one.board: one for one in found if one.via != "agent" or watch is not None}
        self._watch = watch
        self._lines: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        for one in found:
            _ = self._lines[one.at]  # two outputs of one supply share its line

    def provenance(self, board: str) -> Provenance | None:
        """Of a board's channel, without reading it; None if its agent is not there to say."""
        meter = self.channels[board]
        if meter.via != "agent":
            return meter.provenance
        assert self._watch is not None
        status = self._watch.known(meter.node)
        if status is None or status.state == "offline":
            return None
        found = [one.provenance for one in status.quantities if one.name == "power_w"]
        if not found:
            raise HardwareError(
                f"board {meter.board}: the agent of {meter.node} reports no power_w", "hil-agent sensors, on the board"
            )
        return found[0]

    def read(self, for_s: float, boards: tuple[str, ...] | None = None) -> dict[str, Readings]:
        """Readings over `for_s` seconds, at least LEAST of each; of all channels, or of some boards' alone.

        An agent that is off says nothing: its channel is left out.

        Raises:
            HardwareError: an instrument does not answer, or says what is no power.
        """
        names = [name for name in self.channels if boards is None or name in boards]
        if not names:
            return {}
        if len(names) == 1:  # without a thread that Ctrl-C would wait for, an hour perhaps
            done = [self._one(self.channels[names[0]], for_s)]
        else:
            with ThreadPoolExecutor(len(names), "meter") as pool:
                done = list(pool.map(lambda name: self._one(self.channels[name], for_s), names))
        return {name: one for name, one in zip(names, done, strict=True) if one is not None}

    def _one(self, meter: Meter, for_s: float) -> Readings | None:
        if meter.via == "agent":
            return self._from_agent(meter, for_s)
        reader = cast(Reader, importlib.import_module(READERS[meter.via]))
        watts: list[float] = []
        pause, deadline = threading.Event(), time.monotonic() + for_s
        while time.monotonic() < deadline or len(watts) < LEAST:
            with self._lines[meter.at]:
                watts.append(_plausible(meter, reader.watts(meter)))
            pause.wait(PERIOD_S)
        return Readings(tuple(watts), meter.provenance)

    def _from_agent(self, meter: Meter, for_s: float) -> Readings | None:
        provenance = self.provenance(meter.board)
        if provenance is None:
            return None
        assert self._watch is not None
        said = self._watch.summaries(meter.node, max(2, round(for_s)), SUMMARY_S + for_s)
        after = self.provenance(meter.board)
        if after not in (provenance, None):
            raise HardwareError(
                f"board {meter.board}: its power was {provenance} and has become {after} while it was read",
                f"what does its agent say? hil console {meter.node}; then again",
            )
        watts = tuple(_plausible(meter, one.power_w) for one in said if one.power_w is not None)
        return Readings(watts, provenance) if watts else None


def _plausible(meter: Meter, watts: float) -> float:
    if not math.isfinite(watts) or not -1.0 <= watts <= 10_000.0:
        raise HardwareError(
            f"board {meter.board}: meter {meter.name} says {watts:g} W, wanted 0 to 10,000", "check its channel"
        )
    return watts
