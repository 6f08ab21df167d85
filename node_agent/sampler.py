"""Reads instruments at a steady rate and hands over one batch a second.

One sampler per rate: fast ones share a thread, a slow one (a serial meter, a command) has its own, so that it
cannot make the others late. Deadlines are absolute: a late reading does not shift the next, and a missed one is
counted, never made up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import psutil

from hil_config.errors import HardwareError
from hil_config.wire.messages import NodeEvent, SampleBatch
from node_agent.sensors.plausible import Plausible
from node_agent.sensors.reading import Instrument

TIMING_S = 60.0
FLUSH_S = 2.0


class HostLoad:
    """Processor load of the whole board in percent, looked up at most twice a second."""

    def __init__(self) -> None:
        self._value = float(psutil.cpu_percent(None))
        self._due_s = 0.0

    def now(self, at_s: float) -> float:
        if at_s >= self._due_s:
            self._value, self._due_s = float(psutil.cpu_percent(None)), at_s + 0.5
        return self._value


class Sampler:
    """Args:

    hz: readings a second.
    deliver: takes each batch (about a second of samples, by column).
    tell: takes events: a quantity that became implausible or good again, and the timing once a minute.
    load: processor load in percent at a monotonic instant; the measure for "stuck".
    """

    def __init__(
        self,
        instruments: list[Instrument],
        hz: float,
        deliver: Callable[[SampleBatch], None],
        tell: Callable[[NodeEvent], None],
        load: Callable[[float], float] | None = None,
    ) -> None:
        self._instruments = instruments
        self.hz = hz
        self._deliver = deliver
        self._tell = tell
        self._load = load or HostLoad().now
        self._judges = [[Plausible(q) for q in instrument.quantities] for instrument in instruments]
        self._names = [q.name for instrument in instruments for q in instrument.quantities]
        self._flagged: dict[str, str] = {}
        self.latest: dict[str, float] = {}
        self.beat_s = time.monotonic()
        self._late_us: list[float] = []
        self._missed = 0
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._mono_ns: list[int] = []
        self._columns: dict[str, list[float | None]] = {name: [] for name in self._names}
        self._absent: dict[str, str] = {}

    def work(self, wait: Callable[[float], bool]) -> None:
        """Sample until `wait(seconds)` returns True."""
        period_s, per_batch = 1.0 / self.hz, max(1, round(self.hz))
        due_s = told_s = time.monotonic()
        while not wait(max(0.0, due_s - time.monotonic())):
            self.beat_s = time.monotonic()
            self._late_us.append((self.beat_s - due_s) * 1e6)
            with self._lock:
                self._sample()
                if len(self._mono_ns) >= per_batch:
                    self._flush()
            due_s += period_s
            behind = int((time.monotonic() - due_s) / period_s)
            if behind > 0:
                self._missed += behind
                due_s += behind * period_s
            if self.beat_s - told_s >= TIMING_S:
                told_s = self.beat_s
                self.report_timing()

    def _sample(self) -> None:
        self._mono_ns.append(time.monotonic_ns())
        load = self._load(self._mono_ns[-1] / 1e9)
        for instrument, judges in zip(self._instruments, self._judges, strict=True):
            names = [q.name for q in instrument.quantities]
            try:
                values = instrument.read()
            except HardwareError as error:
                for name in names:
                    self._keep(name, None, error.message)
                continue
            at_s = time.monotonic()
            for name, value, judge in zip(names, values, judges, strict=True):
                try:
                    self._keep(name, judge.check(value, at_s, load), "")
                except HardwareError as error:
                    self._keep(name, None, error.message)

    def _keep(self, name: str, value: float | None, reason: str) -> None:
        self._columns[name].append(value)
        if value is not None:
            self.latest[name] = value
            if self._flagged.pop(name, ""):
                self._tell(NodeEvent("SensorRecovered", time.monotonic_ns(), {"quantity": name}))
            return
        self._absent[name] = reason
        self.latest.pop(name, None)
        if name not in self._flagged:
            self._flagged[name] = reason
            self._tell(NodeEvent("SensorFlagged", time.monotonic_ns(), {"quantity": name, "reason": reason}))

    def report_timing(self) -> None:
        """How late readings began, in microseconds after their deadline, and how many deadlines were missed."""
        late, missed = sorted(self._late_us), self._missed
        self._late_us, self._missed = [], 0
        if late:
            details: dict[str, str | int | float | bool] = {"hz": self.hz, "readings": len(late), "missed": missed}
            details["late_max_us"] = round(late[-1], 1)
            for percent in (50, 99):
                details[f"late_p{percent}_us"] = round(late[(len(late) - 1) * percent // 100], 1)
            self._tell(NodeEvent("SamplerTiming", time.monotonic_ns(), details))

    def flush(self, wait_s: float = FLUSH_S) -> None:
        """Hand over what has been read so far (any thread). Not what an instrument that hangs keeps from us."""
        if self._lock.acquire(timeout=max(0.0, wait_s)):
            try:
                self._flush()
            finally:
                self._lock.release()

    def _flush(self) -> None:
        if not self._mono_ns:
            return
        columns = {name: tuple(values) for name, values in self._columns.items()}
        batch = SampleBatch(tuple(self._mono_ns), columns, self._absent)
        self._clear()
        self._deliver(batch)


def group_by_rate(instruments: Iterable[Instrument]) -> list[tuple[float, list[Instrument]]]:
    """(hz, instruments) for one sampler each; every slow instrument is alone."""
    groups: list[tuple[float, list[Instrument]]] = []
    shared: dict[float, list[Instrument]] = {}
    for instrument in instruments:
        hz = min(q.hz for q in instrument.quantities)
        if instrument.slow:
            groups.append((hz, [instrument]))
        elif hz in shared:
            shared[hz].append(instrument)
        else:
            shared[hz] = [instrument]
            groups.append((hz, shared[hz]))
    return groups
