"""Reads every sensor at a steady rate and hands over one batch a second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from hil_config.errors import HardwareError
from hil_config.wire.messages import SampleBatch
from node_agent.sensors.reading import Sensor


class Sampler:
    """Args: `deliver` takes each batch (about a second of samples, by column)."""

    def __init__(self, sensors: list[Sensor], hz: float, deliver: Callable[[SampleBatch], None]) -> None:
        self._sensors = sensors
        self._period_s = 1.0 / hz
        self._per_batch = max(1, round(hz))
        self._deliver = deliver
        self.latest: dict[str, float] = {}
        self._clear()

    def _clear(self) -> None:
        self._mono_ns: list[int] = []
        self._columns: dict[str, list[float | None]] = {s.quantity.name: [] for s in self._sensors}
        self._absent: dict[str, str] = {}

    def work(self, wait: Callable[[float], bool]) -> None:
        """Sample until `wait(seconds)` returns True. Deadlines are absolute: a late one does not shift the next."""
        due_s = time.monotonic()
        while not wait(max(0.0, due_s - time.monotonic())):
            self._sample()
            if len(self._mono_ns) >= self._per_batch:
                self.flush()
            due_s = max(due_s + self._period_s, time.monotonic())

    def _sample(self) -> None:
        self._mono_ns.append(time.monotonic_ns())
        for sensor in self._sensors:
            name = sensor.quantity.name
            value: float | None
            try:
                value = sensor.read()
                if not math.isfinite(value):
                    raise HardwareError(f"{name}: {value}")
                self.latest[name] = value
            except HardwareError as error:
                value = None
                self._absent[name] = error.message
                self.latest.pop(name, None)
            self._columns[name].append(value)

    def flush(self) -> None:
        """Hand over what has been read so far."""
        if not self._mono_ns:
            return
        columns = {name: tuple(values) for name, values in self._columns.items()}
        batch = SampleBatch(tuple(self._mono_ns), columns, self._absent)
        self._clear()
        self._deliver(batch)
