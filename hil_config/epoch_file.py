"""The highest epoch that ever commanded a board: on disk before it counts, so that a restart does not forget it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hil_config.durable_file import write_durably
from hil_config.errors import EnvironmentFault, RemoteProtocolError


class EpochFile:
    """`epoch` is 0 for a board that nobody has commanded yet. EnvironmentFault if the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._epoch = _read(path)

    @property
    def epoch(self) -> int:
        return self._epoch

    def admit(self, epoch: int) -> bool:
        """Take an order of `epoch`: whether it is a new one. RemoteProtocolError if it is over, or cannot be kept."""
        if epoch < self._epoch:
            raise RemoteProtocolError(f"epoch {epoch} is over, {self._epoch} is in command")
        if epoch == self._epoch:
            return False
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._path, msgspec.json.encode(epoch))
        except OSError as error:
            raise RemoteProtocolError(
                f"{self._path}: the epoch cannot be kept, so its orders are refused: {error}"
            ) from error
        self._epoch = epoch
        return True


def _read(path: Path) -> int:
    try:
        return msgspec.json.decode(path.read_bytes(), type=int)
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            f"{path}: the highest epoch cannot be read: {getattr(error, 'strerror', None) or error}",
            "is `spool` a folder? Else, if no other controller is at work, remove the file",
        ) from error
