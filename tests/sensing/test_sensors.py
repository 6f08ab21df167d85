"""Every driver on a tree copied from a real board, and on a broken one."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil_config.errors import ConfigError, HardwareError
from hil_config.schema.profiles import load_profile, profile_names
from node_agent.config import PowerModel, SensorSpec, read_config
from node_agent.sensors import cpu_power_model, hwmon_power, jtop_stats, process, rapl, thermal_zone, vcgencmd
from node_agent.sensors.listing import as_json, as_table, look
from node_agent.sensors.reading import Absent, Instrument
from node_agent.sensors.registry import DRIVERS, probe
from tests.sensing import boards

needs_no_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def spec(root: Path, driver: str = "") -> SensorSpec:
    return SensorSpec(driver, str(root))


def values(instrument: Instrument) -> dict[str, float]:
    return {q.name: v for q, v in zip(instrument.quantities, instrument.read(), strict=True)}


def by(instrument: Instrument, name: str) -> str:
    return next(str(q.provenance) for q in instrument.quantities if q.name == name)


def test_orin_nano_power_is_the_module_input(tmp_path: Path) -> None:
    found = hwmon_power.find(spec(boards.orin_nano(tmp_path)), 100.0)
    read = values(found)
    assert read["power_w"] == read["power_vdd_in_w"] == pytest.approx(5.008 * 0.976)
    assert read["power_vdd_cpu_gpu_cv_w"] == pytest.approx(5.008 * 0.184)
    assert "ina3221" in by(found, "power_w").lower() and "VDD_IN, module input" in by(found, "power_w")
    assert {q.hz for q in found.quantities} == {100.0} and not found.slow


def test_agx_orin_sums_its_input_rails_once(tmp_path: Path) -> None:
    read = values(found := hwmon_power.find(spec(boards.agx_orin(tmp_path)), 10.0))
    assert read["power_w"] == pytest.approx(19.08 * (0.168 + 0.088) + 5.032 * 0.648)
    assert set(read) == {
        "power_w", "power_vdd_gpu_soc_w", "power_vdd_cpu_cv_w", "power_vin_sys_5v0_w", "power_vddq_vdd2_1v8ao_w",
    }, "a channel that is not connected is no rail"  # fmt: skip
    assert by(found, "power_w").count("+") == 2


def test_thor_power_is_that_of_the_input_monitor(tmp_path: Path) -> None:
    found = hwmon_power.find(spec(boards.thor(tmp_path)), 10.0)
    assert values(found)["power_w"] == pytest.approx(25.9875)
    assert "INA238" in by(found, "power_w")


@pytest.mark.parametrize("kind", ["ina219", "ina260"])
def test_a_monitor_that_somebody_has_wired_in_is_no_module_input(tmp_path: Path, kind: str) -> None:
    folder = "sys/class/hwmon/hwmon2"
    files = {"name": kind, "in1_input": "5100", "curr1_input": "640", "power1_input": "3264000"}
    root = boards.write(boards.pi_4(tmp_path), {f"{folder}/{name}": text for name, text in files.items()})
    (root / folder / "device").symlink_to("../../../bus/i2c/devices/1-0040")
    (root / "sys/bus/i2c/devices/1-0040").mkdir(parents=True)
    found = hwmon_power.find(spec(root), 10.0)
    assert values(found) == {"power_w": 3.264, "power_1-0040_w": 3.264}
    assert by(found, "power_w") == f"measured({kind.upper()} 1-0040 1-0040, as wired)"


def test_a_slow_monitor_limits_the_rate(tmp_path: Path) -> None:
    root = boards.orin_nano(tmp_path)
    (root / "sys/class/hwmon/hwmon1/update_interval").write_text("140\n")
    assert hwmon_power.find(spec(root), 100.0).quantities[0].hz == pytest.approx(1000 / 140)


def test_hottest_processor_zone_that_is_on(tmp_path: Path) -> None:
    assert thermal_zone.find(spec(boards.orin_nano(tmp_path / "nano")), 10.0).read() == (48.437,)
    assert thermal_zone.find(spec(boards.pi_4(tmp_path / "pi")), 10.0).read() == (51.121,)
    assert thermal_zone.find(spec(boards.x86(tmp_path / "x86")), 10.0).read() == (61.0,)


def test_a_temperature_names_all_zones_that_it_may_be_of(tmp_path: Path) -> None:
    nano = thermal_zone.find(spec(boards.orin_nano(tmp_path / "nano")), 10.0)
    zones = "thermal_zone0 cpu-thermal, thermal_zone3 soc0-thermal, thermal_zone4 tj-thermal"
    assert by(nano, "temperature_c") == f"measured(hottest of {zones})"
    pi = thermal_zone.find(spec(boards.pi_4(tmp_path / "pi")), 10.0)
    assert by(pi, "temperature_c") == "measured(thermal_zone0 cpu-thermal)"


def test_rapl_counts_across_the_wrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = boards.x86(tmp_path)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    found = rapl.find(spec(root), 10.0)
    (root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("671149\n")
    now[0] = 100.1
    assert found.read()[0] == pytest.approx((262143328850 - 262143000000 + 671149 + 1) / 1e6 / 0.1)
    assert "processor package" in by(found, "power_w")


def test_pi_5_power_is_labelled_as_estimated(tmp_path: Path) -> None:
    tool = boards.program(tmp_path / "vcgencmd", {"pmic_read_adc": boards.ADC})
    found = vcgencmd.find_adc(SensorSpec("pi_pmic", str(tool)), 100.0)
    read = values(found)
    rails = read["power_pmic_w"]
    assert rails == pytest.approx(1.7564, abs=1e-4)
    assert read["power_w"] == pytest.approx(1.1451 * rails + 0.5879)
    assert read["supply_v"] == pytest.approx(5.06788)
    assert by(found, "power_w").startswith("modelled(estimated") and by(found, "supply_v").startswith("measured(")
    assert found.slow and found.quantities[0].hz == 10.0


@pytest.mark.parametrize("flags", [0x0, 0x50005, 0x80008])
def test_throttle_flags_from_the_file_and_from_the_tool(tmp_path: Path, flags: int) -> None:
    root = boards.pi_4(tmp_path / "tree")
    (root / "sys/devices/platform/soc/soc:firmware/get_throttled").write_text(f"{flags:x}\n")
    assert vcgencmd.find_throttled(spec(root), 10.0).read() == (float(flags),)
    tool = boards.program(tmp_path / "vcgencmd", {"get_throttled": f"throttled={flags:#x}"})
    assert vcgencmd.find_throttled(SensorSpec("pi_throttled", str(tool)), 10.0).read() == (float(flags),)


class Jtop(SimpleNamespace):
    """The shapes of jetson-stats 4.3 to 7.2: what `power`, `temperature` and `stats` hold on an Orin Nano."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(
            power={"rail": {"VDD_SOC": {"power": 1440}}, "tot": {"power": 4888, "avg": 5100, "volt": 5008}},
            temperature={"cpu": {"temp": 48.25, "online": True}, "cv0": {"temp": -256.0, "online": False}},
            stats={"GPU": 37.0, "nvp model": "15W"},
            alive=True,
        )
        vars(self).update(changes)

    def ok(self, spin: bool = False) -> bool:
        return bool(self.alive)

    def close(self) -> None:
        self.alive = False


def test_jtop_reports_power_hottest_zone_and_gpu() -> None:
    found = jtop_stats.instrument(Jtop(), 100.0)
    assert values(found) == {"power_w": 4.888, "temperature_c": 48.25, "gpu_percent": 37.0}
    assert {q.hz for q in found.quantities} == {2.0} and found.slow
    found.close()
    with pytest.raises(HardwareError, match="stopped answering"):
        found.read()


@pytest.mark.parametrize(
    "changes", [{"power": {}}, {"temperature": {"cpu": {"online": True}}}, {"stats": None}, {"stats": {"CPU1": 3}}]
)
def test_jtop_with_other_content_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(HardwareError, match="jtop: unexpected content"):
        jtop_stats.instrument(Jtop(**changes), 1.0).read()


@pytest.mark.parametrize("ended_by", [EOFError(), ConnectionResetError(104, "Connection reset by peer")])
def test_a_jtop_service_that_goes_away_is_an_error_and_not_the_end(ended_by: Exception) -> None:
    class Ended(Jtop):
        def ok(self, spin: bool = False) -> bool:
            raise ended_by  # as jetson-stats does: what ended its thread comes out here

    with pytest.raises(HardwareError, match=f"stopped answering: {type(ended_by).__name__}"):
        jtop_stats.instrument(Ended(), 1.0).read()


@pytest.mark.skipif("jtop" in sys.modules, reason="jetson-stats is installed")
def test_without_jetson_stats_jtop_is_absent_with_the_command() -> None:
    pytest.importorskip("psutil")
    try:
        import jtop  # noqa: F401
    except ImportError:
        with pytest.raises(Absent, match=r"spacemoe-hil\[jetson\]"):
            jtop_stats.find(SensorSpec("jtop"), 1.0)
    else:
        with pytest.raises(Absent, match="jtop"):
            jtop_stats.find(SensorSpec("jtop"), 1.0)


def test_process_and_model_are_always_there() -> None:
    read = values(process.find(SensorSpec("process"), 10.0))
    assert 5.0 < read["memory_mb"] < 1e5
    model = cpu_power_model.find(PowerModel("raspberry-pi-4b", 2.7, 0.925, 4, 5.0), 10.0)
    sum(range(2_000_000))
    assert 2.7 < model.read()[0] <= 2.7 + 4 * 0.925
    assert by(model, "power_w").startswith("modelled(")


# --- broken trees -----------------------------------------------------------------------------------------------

RAIL = "sys/class/hwmon/hwmon1/curr1_input"
ZONE = "sys/class/thermal/thermal_zone0/temp"
COUNTER = "sys/class/powercap/intel-rapl:0/energy_uj"
FLAGS = "sys/devices/platform/soc/soc:firmware/get_throttled"
Case = tuple[Callable[[Path], Path], Callable[[SensorSpec, float], Instrument], str]
CASES: dict[str, Case] = {
    "hwmon_power": (boards.orin_nano, hwmon_power.find, RAIL),
    "thermal_zone": (boards.pi_4, thermal_zone.find, ZONE),
    "rapl": (boards.x86, rapl.find, COUNTER),
    "pi_throttled": (boards.pi_4, vcgencmd.find_throttled, FLAGS),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("text", ["", "xyzzy", "1e999", "nan", "\x00\xff"])
def test_garbage_is_an_error_that_names_the_file(tmp_path: Path, name: str, text: str) -> None:
    board, find, file = CASES[name]
    root = board(tmp_path)
    found = find(spec(root), 10.0)
    (root / file).write_text(text)
    with pytest.raises(HardwareError, match=file.rpartition("/")[2]):
        found.read()


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_vanishes_is_an_error_and_may_come_back(tmp_path: Path, name: str) -> None:
    board, find, file = CASES[name]
    root = board(tmp_path)
    found = find(spec(root), 10.0)
    text = (root / file).read_text()
    (root / file).unlink()
    with pytest.raises(HardwareError, match="no such file"):
        found.read()
    (root / file).write_text(text)
    assert all(value >= 0 for value in found.read())


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_cannot_be_read_names_the_reason(tmp_path: Path, name: str) -> None:
    """A folder in the place of the file fails for root too; without root the permission bits are tested as well."""
    board, find, file = CASES[name]
    root = board(tmp_path)
    found = find(spec(root), 10.0)
    (root / file).chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(HardwareError, match="permission denied"):
            found.read()
    (root / file).unlink()
    (root / file).mkdir()
    with pytest.raises(HardwareError, match=file.rpartition("/")[2]):
        found.read()


@needs_no_root
def test_rapl_that_only_root_may_read_is_absent_for_that_reason(tmp_path: Path) -> None:
    root = boards.x86(tmp_path)
    (root / COUNTER).chmod(0)
    with pytest.raises(Absent, match="permission denied"):
        rapl.find(spec(root), 10.0)


@pytest.mark.parametrize("find", [hwmon_power.find, thermal_zone.find, rapl.find])
def test_an_empty_tree_is_absent_with_the_place_that_was_searched(
    tmp_path: Path, find: Callable[[SensorSpec, float], Instrument]
) -> None:
    with pytest.raises(Absent, match="sys/class"):
        find(spec(tmp_path), 10.0)


def test_a_zone_that_is_off_is_no_temperature(tmp_path: Path) -> None:
    root = boards.pi_4(tmp_path)
    found = thermal_zone.find(spec(root), 10.0)
    (root / ZONE).write_text("-256000\n")
    with pytest.raises(HardwareError, match="switched off"):
        found.read()


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [("", 0, "found 0 rails"), ("VDD_CORE_A current(7)=0.7A", 0, "found 0 rails"), (boards.ADC, 1, "pmic_read_adc"),
     ('error=1 error_msg="Command not registered"', 0, "not registered")],
)  # fmt: skip
def test_a_pi_4_has_no_power_chip(tmp_path: Path, text: str, code: int, reason: str) -> None:
    tool = boards.program(tmp_path / "vcgencmd", {"pmic_read_adc": text}, code)
    with pytest.raises(Absent, match=reason):
        vcgencmd.find_adc(SensorSpec("pi_pmic", str(tool)), 10.0)


def test_without_vcgencmd_the_pi_sensors_are_absent(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="no such program"):
        vcgencmd.find_adc(SensorSpec("pi_pmic", str(tmp_path / "vcgencmd")), 10.0)
    if shutil.which("vcgencmd") is None:
        with pytest.raises(Absent, match="no such program"):
            vcgencmd.find_throttled(SensorSpec("pi_throttled"), 10.0)


# --- probing ----------------------------------------------------------------------------------------------------


def test_probe_keeps_both_powers_apart_and_says_what_is_missing(tmp_path: Path) -> None:
    root = boards.orin_nano(tmp_path)
    found = probe(boards.config(root, *map(SensorSpec, ("hwmon_power", "thermal_zone", "process", "rapl"))))
    provenance = {q.name: str(q.provenance) for q in found.quantities}
    assert provenance["power_w"].startswith("measured(INA3221")
    assert provenance["power_cpu_power_model_w"].startswith("modelled(")
    assert len(provenance) == len(found.quantities)
    assert [(m.name, "no RAPL package" in m.reason) for m in found.missing] == [("rapl", True)]


def test_without_any_sensor_power_is_the_model(tmp_path: Path) -> None:
    found = probe(boards.config(tmp_path, SensorSpec("thermal_zone")))
    assert [(q.name, q.provenance.kind) for q in found.quantities] == [("power_w", "modelled")]


def test_an_unknown_driver_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ampmeter") as caught:
        probe(boards.config(tmp_path, SensorSpec("ampmeter")))
    assert "hwmon_power" in caught.value.hint


def test_listing_shows_place_rate_value_and_reason(tmp_path: Path) -> None:
    root = boards.orin_nano(tmp_path)
    (root / RAIL).write_text("9999999\n")
    listing = look(boards.config(root, *map(SensorSpec, ("hwmon_power", "thermal_zone", "jtop"))))
    lines = {line.name: line for line in listing.found}
    assert lines["temperature_c"].value == 48.437 and lines["temperature_c"].hz == 10.0
    assert lines["power_w"].value is None and "out of range" in lines["power_w"].problem
    assert [m.name for m in listing.missing] == ["jtop"]
    table = as_table(listing)
    assert str(root / "sys/class/thermal") in table and "missing: jtop" in table and "out of range" in table
    assert '"read_ms"' in as_json(listing)


@pytest.mark.parametrize("name", profile_names())
def test_every_board_profile_names_sensors_that_exist(tmp_path: Path, name: str) -> None:
    fields = {
        "node": "alpha", "bench": "bench", "broker_host": "127.0.0.1", "broker_port": 1883, "data_host": "127.0.0.1",
        "data_port": 0, "shards": "shards", "spool": "spool", "sysfs_root": str(tmp_path),
        **load_profile(name).agent_fields(),
    }  # fmt: skip
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(fields))
    read = read_config(path)
    assert {s.driver for s in read.sensors} <= set(DRIVERS)
    assert any(q.name == "power_w" for q in probe(read).quantities)
