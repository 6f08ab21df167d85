"""A power switch of one's own: a file says whether the board has power. Put your relay's protocol in its place."""

from __future__ import annotations

from pathlib import Path

from firmware_tools.power.spec import Switch
from hil_config.errors import HardwareError


class FileSwitch:
    """`at` is the file."""

    @staticmethod
    def switch(spec: Switch, on: bool) -> None:
        try:
            Path(spec.at).write_text("on\n" if on else "off\n")
        except OSError as error:
            raise HardwareError(f"board {spec.board}: {spec.at}: {error.strerror}", "mend `power.at`") from error

    @staticmethod
    def status(spec: Switch) -> bool | None:
        try:
            return Path(spec.at).read_text().strip() == "on"
        except OSError:
            return None
