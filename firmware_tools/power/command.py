"""Any program that switches: exit code 0 is done; a status program prints `on` or `off`."""

from __future__ import annotations

import subprocess

from firmware_tools.power.spec import Switch
from hil_config.errors import EnvironmentFault, HardwareError

TIMEOUT_S = 60.0


def run(board: str, words: tuple[str, ...]) -> str:
    """Standard output of a program, or HardwareError with what it said."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise EnvironmentFault(f"board {board}: {words[0]} is not installed", f"install {words[0]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HardwareError(f"board {board}: {words[0]}: {error}", "run it by hand") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["nothing"]
        raise HardwareError(
            f"board {board}: {words[0]} ended with {done.returncode} and said {said[0]}", "run it by hand"
        )
    return done.stdout


def switch(spec: Switch, on: bool) -> None:
    run(spec.board, spec.on_command if on else spec.off_command)


def status(spec: Switch) -> bool | None:
    if not spec.status_command:
        return None
    said = run(spec.board, spec.status_command).strip().lower()
    if said not in ("on", "off"):
        raise HardwareError(f"board {spec.board}: status_command printed {said[:40]!r}, wanted on or off", "mend it")
    return said == "on"
