"""The fan's pulse width, 0 to 255, through hwmon (Documentation/hwmon/pwm-fan.rst); `auto` is the kernel's own."""

from __future__ import annotations

from pathlib import Path

from hil_config.errors import HardwareError
from node_agent.power_modes.actuator import Actuator, write_text
from node_agent.sensors.sysfs import read_integer, read_text

_NAMES = frozenset({"pwmfan", "pwm_fan", "pwm-fan"})
MANUAL = 1


def find(root: Path) -> Actuator | None:
    """None without a fan that can be set."""
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if (folder / "pwm1").exists() and read_text(folder / "name") in _NAMES:
            return _fan(folder)
    return None


def _fan(folder: Path) -> Actuator:
    switch = folder / "pwm1_enable"

    def read() -> str:
        if switch.exists() and (mode := read_integer(switch)) != MANUAL:
            return f"auto{mode}"
        return str(read_integer(folder / "pwm1"))

    def apply(text: str) -> None:
        if text.startswith("auto"):
            write_text(switch, text[4:] or "2")
            return
        if not text.isdigit() or int(text) > 255:
            raise HardwareError(f"fan {text!r}, wanted 0 to 255")
        if switch.exists():
            write_text(switch, str(MANUAL))
        write_text(folder / "pwm1", text)

    return Actuator("fan", str(folder), read, apply)
