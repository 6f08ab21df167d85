"""Changing a board's settings so that they are put back, also by the next process after a kill -9.

Before the first change of an actuator its original goes into a restore file (written to a temporary name, synced,
renamed). Stopping puts everything back and removes the file; a start that finds one does that first.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from hil_config.durable_file import write_durably
from hil_config.errors import EnvironmentFault, HardwareError, UsageError
from node_agent.power_modes import cpufreq, fan, nvpmodel
from node_agent.power_modes.actuator import Actuator

NAME = "restore.json"


def find_actuators(root: Path) -> dict[str, Actuator]:
    """What this board has, by name."""
    found = (cpufreq.find(root), fan.find(root), nvpmodel.find() if root == Path("/") else None)
    return {actuator.name: actuator for actuator in found if actuator is not None}


class Settings:
    """Args: folder: where the restore file lies; created."""

    def __init__(self, folder: Path, actuators: dict[str, Actuator]) -> None:
        self._path = folder / NAME
        self.actuators = actuators
        self._originals: dict[str, str] = {}
        try:
            self._originals = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            raise EnvironmentFault(
                f"{self._path}: cannot be read: {error}", "look at the board's power mode, then remove the file"
            ) from error

    @property
    def changed(self) -> bool:
        return bool(self._originals)

    def apply(self, name: str, value: str) -> str:
        """Set, read back, and return what the board says now. HardwareError if it is not what was asked."""
        actuator = self.actuators.get(name)
        if actuator is None:
            known = ", ".join(sorted(self.actuators)) or "nothing"
            raise UsageError(f"{name}: this board cannot set that; it has {known}", "use the duty limit")
        if name not in self._originals:
            self._save({**self._originals, name: actuator.read()})
        actuator.apply(value)
        found = actuator.read()
        if found != value:
            raise HardwareError(f"{actuator.where}: {name} was set to {value} and reads {found}")
        return found

    def _save(self, originals: dict[str, str]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._path, msgspec.json.encode(originals))
        except OSError as error:
            raise EnvironmentFault(f"{self._path}: cannot be written: {error.strerror}", "free space there") from error
        self._originals = originals

    def restore(self) -> list[str]:
        """Put everything back, what was changed last first: a Jetson's mode sets frequencies too, so that the cap below
        it was read in that mode. Returns what could not be, and keeps the file for that."""
        left: list[str] = []
        problems = []
        for name, value in reversed(self._originals.items()):
            try:
                actuator = self.actuators.get(name)
                if actuator is None:
                    raise HardwareError(f"{name}: this board cannot set that any more")
                actuator.apply(value)
                if (found := actuator.read()) != value:
                    raise HardwareError(f"{actuator.where}: {name} was put back to {value} and reads {found}")
            except HardwareError as error:
                left.append(name)
                problems.append(error.message)
        try:
            if left:
                self._save({name: value for name, value in self._originals.items() if name in left})
            elif self._originals:
                self._originals = {}
                self._path.unlink(missing_ok=True)
        except EnvironmentFault as error:
            problems.append(error.message)
        except OSError as error:  # a card that has become read-only: the next start puts it all back once more
            problems.append(f"{self._path}: cannot be removed: {error.strerror}")
        return problems
