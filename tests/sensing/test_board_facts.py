"""A board says what it is, from the files its kernel shows."""

from __future__ import annotations

from pathlib import Path

from node_agent.board_facts import board_facts
from node_agent.power_modes.settings import find_actuators


def test_a_raspberry_pi_tells_model_serial_and_governor(tmp_path: Path) -> None:
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    (tree / "serial-number").write_bytes(b"c1f5a2b3d4e50617\0")
    policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    for name, text in {
        "scaling_governor": "ondemand", "scaling_available_governors": "ondemand performance",
        "scaling_max_freq": "2400000", "cpuinfo_max_freq": "2400000", "cpuinfo_min_freq": "1500000",
        "scaling_min_freq": "1500000",
    }.items():  # fmt: skip
        (policy / name).write_text(f"{text}\n")
    found = board_facts(tmp_path, find_actuators(tmp_path))
    assert found["model"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert found["serial"] == "c1f5a2b3d4e50617"
    assert any(name.startswith("power:") for name in found), "its settings of power"
    assert found["kernel"] and found["python"] and found["onnxruntime"]


def test_a_setting_that_cannot_be_read_says_so_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    for name in ("scaling_governor", "scaling_max_freq", "cpuinfo_max_freq", "cpuinfo_min_freq"):
        (policy / name).write_text("2400000\n")
    actuators = find_actuators(tmp_path)
    for name in ("scaling_governor", "scaling_max_freq"):
        (policy / name).unlink()
    found = board_facts(tmp_path, actuators)
    assert "serial" not in found and "model" not in found
    assert all(text.startswith("not read: ") for name, text in found.items() if name.startswith("power:"))
