"""What a board is, read for each status: model, serial number, kernel, and the settings that its power hangs on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hil_config.errors import HilError
from node_agent.power_modes.actuator import Actuator

_FILES = {
    "model": ("proc/device-tree/model", "sys/class/dmi/id/product_name"),
    "serial": ("proc/device-tree/serial-number", "sys/class/dmi/id/product_serial"),
}
"""The first that can be read counts: a device tree on Pis and Jetsons, DMI elsewhere (its serial is for root alone)."""
_LIBRARIES = ("onnxruntime", "numpy", "paho-mqtt")


def board_facts(root: Path, settings: Mapping[str, Actuator]) -> dict[str, str]:
    """By name: `model` and `serial` where the board tells them, `machine`, `kernel`, `python`, libraries, and
    `power:NAME` for each setting of power, as it reads now.

    Args:
        root: where /proc and /sys are.
    """
    found = {}
    for name, places in _FILES.items():
        told = next((text for place in places if (text := _text(root / place))), "")
        if told:
            found[name] = told
    found |= {"machine": platform.machine(), "kernel": platform.release(), "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    for name, actuator in settings.items():
        try:
            found[f"power:{name}"] = actuator.read()
        except HilError as error:
            found[f"power:{name}"] = f"not read: {error.message}"
    return found


def _text(path: Path) -> str:
    """A kernel attribute without its end (device trees end theirs with NUL); "" where it cannot be read."""
    try:
        return path.read_bytes().rstrip(b"\0\n ").decode(errors="replace").strip()
    except OSError:
        return ""
