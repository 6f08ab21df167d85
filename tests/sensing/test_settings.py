"""Power settings are read back and put back, also by the next process, and on a disk that fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hil_config.errors import EnvironmentFault, HardwareError, UsageError
from node_agent.power_modes import cpufreq, fan, nvpmodel
from node_agent.power_modes.actuator import Actuator
from node_agent.power_modes.settings import Settings, find_actuators
from node_agent.starts import Starts
from tests.sensing.boards import pi_4_with_fan as board


def test_settings_are_read_back_and_put_back(tmp_path: Path) -> None:
    root = board(tmp_path)
    settings = Settings(tmp_path / "state", find_actuators(root))
    assert settings.apply("cpu_khz", "900000") == "900000" and settings.apply("fan", "200") == "200"
    assert settings.apply("cpu_khz", "600000") == "600000"
    assert json.loads((tmp_path / "state/restore.json").read_text()) == {"cpu_khz": "1800000", "fan": "auto2"}
    assert settings.restore() == [] and not settings.changed
    assert (root / "sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq").read_text() == "1800000\n"
    assert (root / "sys/class/hwmon/hwmon2/pwm1_enable").read_text() == "2\n"
    assert not (tmp_path / "state/restore.json").exists()


def test_a_start_after_kill_9_puts_back_what_was_changed(tmp_path: Path) -> None:
    root = board(tmp_path)
    code = (
        "import sys, pathlib\n"
        "from node_agent.power_modes.settings import Settings, find_actuators\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "Settings(root / 'state', find_actuators(root)).apply('cpu_khz', '900000')\n"
        "print('set', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "set\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.communicate()
    again = Settings(root / "state", find_actuators(root))
    assert again.changed and cpufreq.find(root).read() == "900000"  # type: ignore[union-attr]
    assert again.restore() == [] and cpufreq.find(root).read() == "1800000"  # type: ignore[union-attr]


def test_a_board_that_does_not_obey_is_an_error_and_is_remembered(tmp_path: Path) -> None:
    root = board(tmp_path)
    actuators = find_actuators(root)
    deaf = actuators["fan"]._replace(apply=lambda text: None)
    settings = Settings(tmp_path / "state", {**actuators, "fan": deaf})
    with pytest.raises(HardwareError, match="was set to 200 and reads auto2"):
        settings.apply("fan", "200")
    settings.apply("cpu_khz", "900000")
    (root / "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq").write_text("1000000\n")
    problems = settings.restore()
    assert len(problems) == 1 and "wanted 600000 to 1000000" in problems[0]
    assert json.loads((tmp_path / "state/restore.json").read_text()) == {"cpu_khz": "1800000"}


def test_what_was_changed_last_is_put_back_first(tmp_path: Path) -> None:
    """A Jetson's mode caps the frequency by itself: what the cap was is known in that mode only."""
    root = board(tmp_path)
    actuators = find_actuators(root)
    mode, caps = tmp_path / "mode", {"0": "1800000", "1": "1200000"}
    mode.write_text("0")

    def set_mode(text: str) -> None:
        mode.write_text(text)
        actuators["cpu_khz"].apply(caps[text])

    nvp = Actuator("nvp_mode", str(mode), mode.read_text, set_mode)
    settings = Settings(tmp_path / "state", {**actuators, "nvp_mode": nvp})
    settings.apply("nvp_mode", "1")
    settings.apply("cpu_khz", "900000")
    again = Settings(tmp_path / "state", settings.actuators)
    assert again.restore() == [] and mode.read_text() == "0"
    assert actuators["cpu_khz"].read() == "1800000"


def test_a_disk_that_has_become_read_only_stops_nobody(tmp_path: Path) -> None:
    root = board(tmp_path)
    folder = tmp_path / "state"
    settings, starts = Settings(folder, find_actuators(root)), Starts(folder)
    settings.apply("cpu_khz", "900000")
    folder.rename(tmp_path / "elsewhere")
    folder.write_text("")  # from now on nothing in it can be written or removed, by nobody
    (problem,) = settings.restore()
    assert "restore.json: cannot be removed" in problem
    assert cpufreq.find(root).read() == "1800000"  # type: ignore[union-attr]
    starts.ended_well()
    assert not starts.safe_mode


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("cpu_khz", "5", HardwareError), ("cpu_khz", "-1", HardwareError), ("fan", "256", HardwareError),
     ("fan", "x", HardwareError), ("nvp_mode", "1", UsageError)],
)  # fmt: skip
def test_what_the_board_cannot_do_is_refused_by_name(
    tmp_path: Path, name: str, value: str, error: type[Exception]
) -> None:
    settings = Settings(tmp_path / "state", find_actuators(board(tmp_path)))
    with pytest.raises(error, match=name if name != "cpu_khz" or value == "-1" else "policy0"):
        settings.apply(name, value)


def test_a_damaged_restore_file_is_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "restore.json").write_text("{")
    with pytest.raises(EnvironmentFault, match=r"restore\.json"):
        Settings(tmp_path, {})


def test_nvpmodel_is_set_and_read_back(tmp_path: Path) -> None:
    mode = tmp_path / "mode"
    mode.write_text("0")
    tool = tmp_path / "nvpmodel"
    refusal = 'echo "NVPM ERROR: Error opening mode $2" >&2; exit 255'
    tool.write_text(
        f'#!/bin/sh\ncase "$1" in\n-q) echo "NV Power Mode: 15W"; cat {mode}; echo;;\n'
        f'-m) [ "$2" -lt 3 ] || {{ {refusal}; }}; printf %s "$2" > {mode};;\nesac\n'
    )
    tool.chmod(0o755)
    actuator = nvpmodel.find(str(tool))
    assert actuator is not None and actuator.read() == "0"
    actuator.apply("1")
    assert actuator.read() == "1"
    with pytest.raises(HardwareError, match="NVPM ERROR"):
        actuator.apply("7")
    assert nvpmodel.find(str(tmp_path / "none")) is None


def test_a_board_without_anything_has_no_actuators(tmp_path: Path) -> None:
    assert find_actuators(tmp_path) == {} and fan.find(tmp_path) is None
