"""The sampler: steady deadlines, absent readings with reasons, events at the edges."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil_config.wire.messages import NodeEvent, Quantity, SampleBatch
from hil_config.wire.provenance import measured
from node_agent.sampler import Sampler, group_by_rate
from node_agent.sensors import thermal_zone
from node_agent.sensors.reading import Instrument
from tests.sensing import boards
from tests.sensing.test_sensors import ZONE, spec


def stop_after(count: int, at: dict[int, Callable[[], Any]] | None = None) -> Callable[[float], bool]:
    """A wait that does not wait, ends the work after `count` readings and acts before some of them."""
    calls = iter(range(count + 1))

    def wait(seconds: float) -> bool:
        n = next(calls)
        if at and n in at:
            at[n]()
        return n >= count

    return wait


def test_absent_reading_with_its_reason_and_events_at_both_edges(tmp_path: Path) -> None:
    root = boards.pi_4(tmp_path)
    batches: list[SampleBatch] = []
    events: list[NodeEvent] = []
    sampler = Sampler([thermal_zone.find(spec(root), 4.0)], 4.0, batches.append, events.append, lambda _: 0.0)
    zone = root / ZONE
    sampler.work(stop_after(9, {2: lambda: zone.write_text("gone wrong"), 6: lambda: zone.write_text("51000\n")}))
    sampler.flush()
    assert [len(b.mono_ns) for b in batches] == [4, 4, 1]
    assert batches[0].columns["temperature_c"] == (51.121, 51.121, None, None)
    assert "thermal_zone0/temp" in batches[0].absent["temperature_c"] and not batches[2].absent
    assert [e.name for e in events] == ["SensorFlagged", "SensorRecovered"]
    assert sampler.latest == {"temperature_c": 51.0}


def test_a_stuck_sensor_is_flagged_within_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "monotonic_ns", lambda: round(now[0] * 1e9))
    quantity = Quantity("power_w", "W", 10.0, measured("INA3221"))
    batches: list[SampleBatch] = []
    events: list[NodeEvent] = []
    instrument = Instrument("x", "", (quantity,), lambda: (4.888,))
    sampler = Sampler([instrument], 10.0, batches.append, events.append, lambda at_s: at_s % 2 * 50.0)

    def wait(seconds: float) -> bool:
        now[0] += seconds
        return now[0] > 6.0

    sampler.work(wait)
    sampler.flush()
    assert [e.name for e in events] == ["SensorFlagged"] and "stuck at 4.888 W" in str(events[0].details["reason"])
    assert events[0].mono_ns <= 5e9
    assert batches[-1].columns["power_w"] == (None,) * len(batches[-1].mono_ns)


def test_deadlines_are_absolute_and_missed_ones_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only moves when the sampler waits or a reading takes time."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "monotonic_ns", lambda: round(now[0] * 1e9))
    slow = iter([0.0, 0.003, 0.0, 0.035, 0.0, 0.0, 0.0])

    def read() -> tuple[float]:
        now[0] += next(slow)
        return (1.0,)

    quantity = Quantity("power_w", "W", 100.0, measured("INA3221"))
    events: list[NodeEvent] = []
    batches: list[SampleBatch] = []
    sampler = Sampler([Instrument("x", "", (quantity,), read)], 100.0, batches.append, events.append, lambda _: 0.0)
    count = iter(range(8))

    def wait(seconds: float) -> bool:
        now[0] += seconds
        return next(count) >= 7

    sampler.work(wait)
    sampler.flush()
    sampler.report_timing()
    assert [round(ns / 1e6) for ns in batches[0].mono_ns] == [0, 10, 20, 30, 65, 70, 80]
    timing = events[-1].details
    assert timing["missed"] == 2 and timing["readings"] == 7
    assert timing["late_max_us"] == pytest.approx(5000.0) and timing["late_p50_us"] == pytest.approx(0.0)


def test_what_was_read_is_handed_over_when_somebody_asks_for_it() -> None:
    """At the end of a run, between two of the batches that the sampler hands over by itself."""
    read, go_on, ended = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def take() -> tuple[float]:
        read.release()
        return (1.0,)

    def wait(seconds: float) -> bool:
        go_on.acquire()
        return ended.is_set()

    instrument = Instrument("x", "", (Quantity("power_w", "W", 100.0, measured("INA3221")),), take)
    batches: list[SampleBatch] = []
    sampler = Sampler([instrument], 100.0, batches.append, lambda event: None, lambda _: 0.0)
    thread = threading.Thread(target=sampler.work, args=(wait,))
    thread.start()
    for _ in range(3):
        go_on.release()
        assert read.acquire(timeout=10.0)
    sampler.flush()
    assert [batch.columns["power_w"] for batch in batches] == [(1.0,) * 3]
    ended.set()
    go_on.release()
    thread.join(10.0)
    sampler.flush()
    assert len(batches) == 1 and not thread.is_alive(), "nothing is handed over twice"


def test_slow_instruments_get_their_own_thread() -> None:
    def made(name: str, hz: float, slow: bool = False) -> Instrument:
        return Instrument(name, "", (Quantity(name, "W", hz, measured("x")),), lambda: (1.0,), slow=slow)

    groups = group_by_rate([made("a", 100.0), made("b", 10.0), made("c", 100.0), made("d", 100.0, slow=True)])
    assert [(hz, [i.driver for i in group]) for hz, group in groups] == [
        (100.0, ["a", "c"]), (10.0, ["b"]), (100.0, ["d"]),
    ]  # fmt: skip
