"""Jetson power modes: `nvpmodel -q` prints the mode's name and, on the next line, its number; `-m N` sets it.

Some modes only take effect after a reboot; nvpmodel then asks a question. Nobody answers here, so the mode stays, and
reading it back says so.
"""

from __future__ import annotations

import shutil
import subprocess

from hil_config.errors import HardwareError
from node_agent.power_modes.actuator import Actuator

TIMEOUT_S = 10.0


def _run(program: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HardwareError(f"{program} {' '.join(arguments)}: {error}") from error
    if done.returncode != 0:
        text = (done.stderr or done.stdout).strip().splitlines()
        raise HardwareError(f"{program} {' '.join(arguments)}: {text[-1] if text else f'exit code {done.returncode}'}")
    return done.stdout


def find(program: str = "nvpmodel") -> Actuator | None:
    """None where there is no nvpmodel."""
    path = shutil.which(program)
    if path is None:
        return None

    def read() -> str:
        for line in _run(path, "-q").splitlines():
            if line.strip().isdigit():
                return line.strip()
        raise HardwareError(f"{path} -q: no mode number in its answer")

    def apply(text: str) -> None:
        if not text.isdigit():
            raise HardwareError(f"nvp_mode {text!r}, wanted a mode's number")
        _run(path, "-m", text)

    return Actuator("nvp_mode", path, read, apply)
