"""A board's console at a pty. Not a test."""

from __future__ import annotations

import os
import pty
import threading
import tty
from collections.abc import Callable


class PoweredConsole:
    """At `port`: it echoes what it is told and prints a prompt while the board `has_power`. Use `close`."""

    def __init__(self, has_power: Callable[[], bool]) -> None:
        self._has_power = has_power
        self._near, self._far = pty.openpty()
        tty.setraw(self._far)
        self.port = os.ttyname(self._far)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while b"\0END" not in (data := os.read(self._near, 256)):
            if self._has_power():
                os.write(self._near, data + b"\nlogin: ")

    def close(self) -> None:
        os.write(self._far, b"\0END")
        self._thread.join()
        os.close(self._near)
        os.close(self._far)
