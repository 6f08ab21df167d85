"""Sensors against copied trees; the modelled one says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_config.errors import HardwareError
from hil_config.wire.messages import SampleBatch
from node_agent.config import AgentConfig, PowerModel
from node_agent.sampler import Sampler
from node_agent.sensors import cpu_power_model, thermal_zone
from node_agent.sensors.reading import Absent, Sensor
from node_agent.sensors.registry import probe


def config(root: Path) -> AgentConfig:
    power = PowerModel("raspberry-pi-4b", 2.7, 0.925, 4, 5.0)
    return AgentConfig("alpha", "bench", "127.0.0.1", 1883, "127.0.0.1", 0, "s", "p", power, str(root), 10.0)


def zone(root: Path, number: int, kind: str, text: str) -> None:
    folder = root / "sys/class/thermal" / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(kind + "\n")
    (folder / "temp").write_text(text)


def test_hottest_processor_zone_of_a_jetson(tmp_path: Path) -> None:
    for number, (kind, text) in enumerate(
        [
            ("cpu-thermal", "48250\n"),
            ("gpu-thermal", "90000\n"),
            ("soc0-thermal", "47000\n"),
            ("tj-thermal", "48437\n"),
        ]
    ):
        zone(tmp_path, number, kind, text)
    sensor = thermal_zone.find(config(tmp_path))
    assert sensor.read() == 48.437
    assert str(sensor.quantity.provenance).startswith("measured(thermal zone")


def test_raspberry_pi_has_one_zone(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "51121\n")
    assert thermal_zone.find(config(tmp_path)).read() == 51.121


@pytest.mark.parametrize("text", ["-256000\n", "", "nonsense\n", "999999\n"])
def test_an_implausible_reading_is_an_error_not_a_value(tmp_path: Path, text: str) -> None:
    zone(tmp_path, 0, "cpu-thermal", text)
    with pytest.raises(HardwareError, match="thermal_zone0/temp"):
        thermal_zone.find(config(tmp_path)).read()


def test_no_zone_is_absent_with_the_place_that_was_searched(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="no thermal zone"):
        thermal_zone.find(config(tmp_path))
    found, missing = probe(config(tmp_path))
    assert {s.quantity.name for s in found} == {"power_w", "cpu_percent", "memory_mb"}
    assert [m.name for m in missing] == ["temperature_c"]


def test_modelled_power_is_labelled_and_within_the_boards_range(tmp_path: Path) -> None:
    sensor = cpu_power_model.find(config(tmp_path))
    assert sensor.quantity.provenance.kind == "modelled"
    sum(range(2_000_000))
    assert 2.7 < sensor.read() <= 2.7 + 4 * 0.925


def test_sampler_reports_an_absent_reading_with_its_reason(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "50000\n")
    sensors: list[Sensor] = [thermal_zone.find(config(tmp_path))]
    batches: list[SampleBatch] = []
    sampler = Sampler(sensors, 4.0, batches.append)
    calls = iter(range(6))

    def wait(seconds: float) -> bool:
        count = next(calls)
        if count == 2:
            (tmp_path / "sys/class/thermal/thermal_zone0/temp").write_text("gone wrong")
        return count >= 5

    sampler.work(wait)
    sampler.flush()
    assert [len(b.mono_ns) for b in batches] == [4, 1]
    assert batches[0].columns["temperature_c"] == (50.0, 50.0, None, None)
    assert "thermal_zone0/temp" in batches[0].absent["temperature_c"]
    assert "temperature_c" not in sampler.latest
